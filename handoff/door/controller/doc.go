// Package controller runs one door: it takes permits and PINs, has package door verify them,
// moves the lock, locks it again, and reports what happened. It listens on no network. Where
// there is one, it dials out.
//
//	stream    permits, recalls and revocation lists from the service, by a connection that the door dialed
//	lines     permits and PINs from a reader program, on standard input or a local socket
//	machine   the life of a door as a pure function: (machine, input, time) -> machine, effects
//	Opener    moves the lock: a [Command], or [MQTT] in zigbee2mqtt's or Home Assistant's convention
//	reporter  brings the signed reports to the service, in order, at least once
//
// A carried door has no service to report to. It keeps its newest reports, and hands those
// about a permit, and its newest alarms with them, to the phone that asks for them (see
// [Bundle]); the phone brings them to the service. They are signed: a phone can withhold
// them, and can change none.
//
// # What a report means here
//
// Every state is said of something that this controller has seen, never of what should
// follow from it.
//
//	delivered  the permit was verified and is used up; the lock is about to be told
//	confirmed  the lock itself confirmed that it is unlocked: by the command's exit code 0, or
//	           on MQTT by a change or by the answers to a readback (see lockView)
//	opened     the door contact went from closed to open while the unlock was in force.
//	           Without a contact this is never said
//	relocked   the lock confirmed that it is locked again; said two seconds later where a
//	           contact may still tell of an opening before that
//	failed     the lock said that it did not unlock; or it did not confirm that it is locked
//	           again (the controller keeps trying, and says relocked if it succeeds); or the
//	           controller was cut off in the middle of an unlock, and the lock may have moved
//	no-answer  the lock did not say whether it unlocked. It is told to lock
//	forced     the contact went from closed to open while the lock was locked, or the lock says
//	           that its door was forced open
//	held-open  the contact still says open, a time after the lock was locked
//	tamper     a sensor said so
//	refused    package door refused a permit or a PIN
//
// and of the lock itself
//
//	jammed       it says that its bolt or its door is stuck
//	battery-low  its battery, or that of a sensor beside it
//	unavailable  it, its bridge or its broker cannot be reached
//
// Two couriers may stand before one door: while it is unlocked, a second permit unlocks
// it again and prolongs the time, and an opening counts for both.
//
// A contact must tell its state when the controller starts, because only a change from
// closed to open is an opening.
//
// # Power cuts and crashes
//
// The replay record, then the record of the unlock under way, then the report
// "delivered" are on the disk, in this order, before the lock is told to move. If one
// of them cannot be written, the door stays closed. So, after a cut at any moment,
//
//	before the replay record             the permit was not used; nothing was said
//	before the record of the unlock      the permit is used up, the lock did not move; nothing was said,
//	                                     and the service shows no-answer
//	before the lock's answer was stored  the lock may have moved: it is told to lock, and the permit is reported failed
//	before it was locked again           it is told to lock, and relocked is reported when it says so
//
// Nothing unlocks for a permit a second time. A report may be lost or be made twice
// only when the cut falls between two writes, and each is true either way.
//
// # Running it
//
// The lock is locked again after its time whether the door is closed or not; a motor
// bolt needs hardware that waits for the door. A lock should be one that locks when its
// power goes. Without a battery clock, start the controller after the time was set
// (systemd: After=time-sync.target), for what stands at [door.Replay]. To stop, give it
// the longest relock time, its own or the registry's (two minutes at most), and twice the
// patience, and signal this process alone, not the program that it runs (TimeoutStopSec=,
// KillMode=mixed).
package controller
