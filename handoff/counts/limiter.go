package counts

import (
	"context"
	"time"
)

// Limiter counts what should be rare, for all instances together. It guards the service
// and decides nothing about a grant; what it knows may be lost.
type Limiter interface {
	// Limit takes one of the most that a key may spend in a period, which come back evenly
	// over it, and says how long to wait for the next; zero while there are some. A key is no
	// personal data: it stands in the store as it is.
	Limit(ctx context.Context, key string, most int, period time.Duration) (wait time.Duration, err error)
}
