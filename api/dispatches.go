package api

import (
	"errors"
	"strings"

	"latchkey/handoff"
)

// ReadDispatch reads a dispatch of a shop as POST /v1/dispatches and each line of its bulk
// route do. The error names the fields and the rules that they break, and repeats nothing
// of what was read.
func ReadDispatch(data []byte, shop string) (handoff.Dispatch, error) {
	d, bad := parse[dispatchRequest, handoff.Dispatch](data)
	if len(bad) > 0 {
		says := make([]string, len(bad))
		for i, v := range bad {
			says[i] = strings.TrimSpace(strings.TrimPrefix(v.Location, "body.") + " " + v.Message)
		}
		return handoff.Dispatch{}, errors.New(strings.Join(says, "; "))
	}
	d.Shop = shop
	return d, nil
}
