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

// Core is the contracts that the service and the registry need. [Memory] implements it.
type Core interface {
	service.Store
	registry.Store
	eventlog.Log
}

// Store is every contract of a store at once, as redisstore implements them.
type Store interface {
	Core
	residents.Store
	identity.Keys
	identity.Sessions
	identity.OneUse
	door.Feed
	trail.Store
	counts.Numbers
	counts.Patterns
	counts.Tally
}
