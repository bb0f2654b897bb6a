package handofftest

import (
	"latchkey/handoff/counts"
	"latchkey/handoff/door"
	"latchkey/handoff/eventlog"
	"latchkey/handoff/identity"
	"latchkey/handoff/registry"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
)

// Store is every contract of a store at once, as redisstore implements them.
type Store interface {
	service.Store
	service.Couriers
	registry.Store
	identity.Keys
	residents.Store
	identity.Sessions
	eventlog.Log
	door.Feed
	trail.Store
	counts.Patterns
	identity.OneUse
	counts.Numbers
}
