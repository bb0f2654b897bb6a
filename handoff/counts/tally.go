package counts

import (
	"context"
	"time"
)

// Tally counts what may come often and must cost little: it keeps a number and no members.
type Tally interface {
	// Tally adds one to a count that is forgotten some time after it began, and returns it.
	// The name is no personal data: it stands in the store as it is. After an error the count
	// may be one too high.
	Tally(ctx context.Context, name string, forget time.Duration) (int, error)
}
