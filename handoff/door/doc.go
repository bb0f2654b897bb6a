// Package door is what a building's door and the service say to each other, and how each
// knows that the other said it: permits, recalls and revocation lists on the way to the
// door, reports on the way back, and the PINs of a keypad.
//
// A door trusts no network. It opens only on a [Permit]: a signed statement that this door
// may open, once, within a minute, and, where presence is asked, for a person who read the
// door's own challenge a moment ago. The door checks a permit offline, with the public keys
// that it pinned when it was enrolled. So the permit may come by any way: by a courier's
// phone, or by a connection that the door dialed.
//
// The service holds a [Signer], and a [ReportVerifier] for each door. A door holds a
// [Verifier] (of a [Trust], a [Replay] and, where it asks for presence, [Challenges]), an
// [Outbox], and a [Keypad] where it has one. The caller gives every time: the package reads
// no clock.
//
// # Wire format
//
// Every message is a tagged COSE_Sign1 (RFC 9052 section 4.2) with EdDSA over Ed25519
// (RFC 9053 section 2.2), whose payload is a CWT claims set (RFC 8392) in the core
// deterministic encoding of RFC 8949 section 4.2.1. Every message has exactly one
// accepted encoding, byte for byte the one that is written here:
//
//	part         bytes   content
//	tag, array     2     18([ ... 4 ])
//	protected     14     {1 (alg): -8 (EdDSA), 4 (kid): 8 bytes}
//	unprotected    1     {}
//	payload      2 + n   the claims
//	signature     66     64 bytes
//
// A key id is the first eight bytes of the key's JWK thumbprint (RFC 7638, RFC 8037).
// Claim -65537 is of the range for private use, and holds what CWT has no name for, as
// an array of fixed length.
//
//	message      limit  claims
//	permit         144  4 (exp), 5 (nbf): uint   7 (cti): 16 bytes, random
//	                    -65537: [grant: 8 bytes, act: uint, door: 4 bytes, challenge: 4 bytes or 0, relock: uint]
//	recall         144  4 (exp): uint, the permit's
//	                    -65537: [permit: 16 bytes]
//	report         144  6 (iat): uint, the door's clock
//	                    -65537: [seq: uint, state: uint, permit: 16 bytes or 0, refusal: uint]
//	revocation     576  6 (iat): uint
//	                    -65537: [serial: uint, revoked: [* 8 bytes], trusted: [* 32 bytes]]
//
// What both sides know is not sent, but signed: it is the external AAD (RFC 9052
// section 4.3), an array that begins with the purpose, so that no message passes for
// one of another kind.
//
//	permit       ["latchkey/permit/v1", door id, challenge: bytes]
//	recall       ["latchkey/recall/v1", door id]
//	report       ["latchkey/report/v1", door id]
//	revocation   ["latchkey/revocation/v1"]
//
// So a permit's signature covers the whole door id and the whole challenge, and its
// size depends on neither's length: 138 bytes, 4 more with a challenge, and 1 for the
// relock delay, or 2 from 24 seconds on. The four bytes of each that it does carry (of the
// SHA-256) are a hint, by which a door can tell "for another door" from "forged", and
// finds the one of its challenges that is meant. The relock delay is in seconds, 1 to 120,
// or 0 for the door's own setting.
//
// For the door "door_turm5-lobby", without a challenge:
//
//	| d2 84                                       | tag 18, array of 4
//	| 4d a2 0127 0448 c91e703563cdc29e             | alg EdDSA, kid
//	| a0                                          | nothing unprotected
//	| 5836 a4                                     | claims
//	| 04 1a 6b057c7c                              | exp 2026-11-24T12:01:00Z
//	| 05 1a 6b057c40                              | nbf 2026-11-24T12:00:00Z
//	| 07 50 b0d4542a73df65f714023f260b3bc95a       | cti
//	| 3a00010000 85                               | -65537
//	| 48 0102030405060708                         | grant
//	| 03                                          | open
//	| 44 ee2a8d32                                 | door
//	| 40                                          | no challenge
//	| 00                                          | relocks as it is set itself
//	| 5840 136a1412e297ddf79af447bc3e1896d18ad568b0bf95231f3ea4b3c85d61a11e | signature
//	| 8d00a28d7f369245c843cf5b5b2fd4ef2023aa42a122e30957e5ed1eb7ae3702      |
//
// A keypad's PIN is TOTP (RFC 6238) by HMAC-SHA-1, a step of 60 seconds, eight digits.
// Reports name it by a permit id that both sides compute: the first 16 bytes of
// HMAC-SHA-256 of the keypad's key over "latchkey/pin/v1", a zero byte and the step in
// eight bytes, big endian.
//
// The numbers of states and refusals are those of [State] and [Refusal].
// testdata/vectors.json holds messages of every kind, with their keys, for other
// implementations.
//
// # Time
//
// All times on the wire are whole seconds since 1970, UTC, in 32 bits. A permit lives for
// [MaxLife]. A door grants its own clock an error of [Skew] at both ends, so that by the
// door's clock a permit is over [MaxLife] + [Skew] = 90 seconds after it was made, recalled
// or not. A door whose clock really is 30 seconds slow adds these: 120 seconds of true time.
// What a door without a battery clock can and cannot promise stands at [Replay].
//
// # A keypad's PIN
//
// No permit reaches a lock that knows only digits. Its courier is told a PIN after the same
// decision, and the keypad checks it by the door's own key and clock. A PIN says less than a
// permit:
//
//   - It cannot be recalled. Once told, it opens the door until it is over, even if the
//     parcel is recalled meanwhile. It is over two minutes after its own minute began, by the
//     keypad's clock. The service tells the PIN of the present minute or, where another
//     courier has that one, of the next. So a PIN is over at most 180 seconds after it was
//     told, and 210 where the keypad's clock is 30 seconds slow. [PINHolds] is when it is
//     sure to work.
//   - It names no courier and binds no challenge: typing it is the only proof of presence.
//   - It does not say how long the lock stays unlocked: the door's own setting does.
//   - A minute has one PIN, which is told to one courier for one unlock. So one keypad lets
//     in about one courier a minute, and two in a row.
//
// # What a thief can do
//
//	stolen              the thief can
//	a permit            open its door with it once, until it is over. Where presence is asked, the thief
//	                    must stand there. Of two uses the second is refused, and so is noticed
//	a PIN               open its door with it once, until it is over; it cannot be taken back
//	a signing key       open any door, until a list signed by the root key reaches that door;
//	                    recall permits that are on their way; not take the key off a list
//	the root key        trust or revoke signing keys at every door, for good: the pins must be replaced.
//	                    It signs lists only, and belongs offline
//	a door's own key    report what did not happen at that door; open nothing
//	a keypad's key      know that door's PINs until the key is replaced, at the door and in the registry
//	a door's disk       use all of the door's own secrets, and its memory: replay at that door what is
//	                    not yet over; nothing at another door
//	the service's store do nothing, as long as it seals the keypads' keys: signing keys are not in it
//
// A thief who has seen a permit or a PIN, and is at the door first, gets in. A proof that is
// carried can bind the place, the time and the number of uses, and not the person.
package door
