package redisstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
)

// Every key that Latchkey writes. {pp} is a grant's partition, {00} to {0f}, as a
// cluster hash tag: a grant, its part of the log and its part of the schedule share a
// slot, so that one script commits them together.
//
//	key                                  type    holds                                               ends
//	lk:{pp}:grant:HASH                   string  8-byte version, then the sealed record; of one of several parcels   window end + retention
//	                                             beside the first: which grant it is of
//	lk:{pp}:grant:HASH:N                 string  the same, of the closed generation N                as above
//	lk:{pp}:log                          stream  events: e = format, grant, then CBOR; u = urgency   trimmed (see Trim)
//	lk:{pp}:due                          zset    HASH-N by when time alone changes the grant         when nothing is due any more
//	lk:{pp}:carrier:CARRIER              hash    HOURw, HOURr: wrong codes and releases of an hour   50 hours after the last
//	lk:{pp}:work:GROUP                   zset    event ids that wait for another try, by when due    with the event
//	lk:{pp}:order:GROUP                  zset    event ids that wait in order of urgency             with the event
//	lk:{pp}:held:GROUP                   hash    event id -> the reader that has it in hand, and its request   with the event
//	lk:{pp}:tries:GROUP                  hash    event id -> failures so far, and the event          with the event
//	lk:{pp}:dead:GROUP                   hash    event id -> dead letter, the event included         until replayed
//	lk:{pp}:counted                      string  the last event whose figures were noted                     never
//	lk:{pp}:numbers:DAY                  hash    HOUR NAME -> how often; ^HOUR NAME: the most             forty days after the last
//	lk:{pp}:probe                        string  nothing: shows that Redis takes writes               a minute after the last
//	lk:{pp}:once                         hash    name -> a note of what was appended (a door's alarms)    never
//	lk:customer:SHOP:ID                  zset    HASH by end of window                               last window end + retention
//	lk:route:CARRIER:ROUTE:DATE          hash    courier, and a count of assignments                 retention
//	lk:route:CARRIER:ROUTE:DATE:grants   zset    HASH by end of window                               window end + retention
//	lk:{pp}:mails                        zset    HASH-N/ISSUE of mails that no server has taken yet, by when they are late   when taken or told of
//	lk:{pp}:mailed:DATE:BUCKET           hash    HASH and N, in bytes -> format, issue, state and time   window end + retention
//	lk:orders:DATE:BUCKET                hash    order's keyed hash and HASH -> nothing                   window end + retention
//	lk:courier:CARRIER:ID                hash    sealed name, clearance, suspension, sign-out, last door, d:DATE/ROUTE   never
//	                                             (a d: three days after its date, with the next route)
//	lk:rate:KIND:HASH                    string  when an address's failures are forgotten                 with it, a minute
//	lk:building:ID, lk:door:ID           string  sealed registry entry                               never
//	lk:buildings                         set     ids of all buildings (written ahead of their entry)  never
//	lk:building:ID:doors                 set     ids of doors; one counts if the door names it        never
//	lk:building:ID:residents             hash    resident id -> revision, then the sealed resident   never
//	lk:building:ID:marks:OF:DATE         hash    topic -> its number, and whether it is done with    eight days after the last
//	lk:marks:OF:DATE                     hash    the same of no building                             eight days after the last
//	lk:permit:PERMIT                     string  grant's HASH, door, and the request that holds it   two days; reserved only, five minutes
//	lk:apikey:ID                         string  sealed record of a key, a hash of its secret in it   until removed
//	lk:apikeys                           set     ids of all keys (written first, removed last)       never
//	lk:spent:ID                          string  who spent a token of one use, by chance             a minute after the token
//	lk:session:HASH                      string  sealed session of a browser                         with the session
//	lk:sessions:HASH                     zset    a customer's or courier's sessions (HASH above) by their end  a minute after the last of them
//	lk:shopsessions:SHOP                 zset    the same of a shop's customers and staff             a minute after the last of them
//	lk:feed:DOOR                         stream  sealed messages for a door that dialed in           ten minutes after the last
//	lk:tally:NAME                        string  a count                                             as its caller says
//	lk:chain:{NAME}:head                 string  format, seq, hash and cut, then CBOR: signed head, cursors  never
//	lk:chain:{NAME}:entries              stream  SEQ-0: e = canonical JSON, h = hash                 cut (see Extend)
//	lk:chains                            set     names of chains                                     never
//	lk:lease:NAME                        hash    holder, and until, ms                               never
//	lk:budget:CARRIER:ID                 list    guesses as they came: reserved, in doubt, counted, excused   31 days after the last guess
//	lk:clearings:CARRIER:ID              list    sealed: who cleared a courier's budget, when and why  retention after the last
//	lk:readers                           hash    reader -> how many signs of life it gave            when it stops, or is found dead
//	lk:epoch                             string  sealed: which epoch the store is of (see Epoch)     never
//	lk:pattern:KEY                       zset    what was seen, by when; KEY by notify/signals        its stretch after the last
//
// A chain's name is its cluster hash tag.
//
// Values that hold personal data or a secret are sealed as a whole (keyring); the
// associated data is the key they belong to and, for a grant, its version, whose upper
// 16 bits are the generation. What is sealed begins with a byte that names its format, as
// does the CBOR that is not sealed: see package storage. Ids from outside match
// ^[A-Za-z0-9._-]{1,64}$, so that no id can reach into another key. A TTL is only cleanup:
// decisions compare windows.
const prefix = "lk:"

func partitionKey(partition int, rest string) string {
	const hex = "0123456789abcdef"
	return prefix + "{0" + hex[partition:partition+1] + "}:" + rest
}

func grantKey(h handoff.ParcelHash) string { return partitionKey(h.Partition(), "grant:"+string(h)) }

func archiveKey(h handoff.ParcelHash, generation int) string {
	return grantKey(h) + ":" + strconv.Itoa(generation)
}

func logKey(partition int) string { return partitionKey(partition, "log") }

func carrierKey(partition int, carrier string) string {
	return partitionKey(partition, "carrier:"+carrier)
}

func dueKey(partition int) string { return partitionKey(partition, "due") }

func mailsKey(partition int) string { return partitionKey(partition, "mails") }

// mailedKey is one of 256 parts of a partition's mails of a delivery day: small enough for Redis to
// keep each of them packed, at some 30 bytes a mail.
func mailedKey(m service.MailRef) string {
	return partitionKey(m.Grant.Hash.Partition(), "mailed:"+m.Day.String()+":"+string(m.Grant.Hash[1:3]))
}

func workKey(partition int, group string) string { return partitionKey(partition, "work:"+group) }

func orderKey(partition int, group string) string { return partitionKey(partition, "order:"+group) }

func heldKey(partition int, group string) string { return partitionKey(partition, "held:"+group) }

func triesKey(partition int, group string) string { return partitionKey(partition, "tries:"+group) }

func deadKey(partition int, group string) string { return partitionKey(partition, "dead:"+group) }

func customerKey(c handoff.CustomerRef) string { return prefix + "customer:" + c.Shop + ":" + c.ID }

func routeKey(r service.RouteRef) string {
	return prefix + "route:" + r.Carrier + ":" + r.Route + ":" + r.Day.String()
}

func routeGrantsKey(r service.RouteRef) string { return routeKey(r) + ":grants" }

// ordersKey is one of 4096 parts of a day's orders: small enough for Redis to keep each of
// them packed, at some 25 bytes an order.
func ordersKey(o service.OrderRef) string {
	return prefix + "orders:" + o.Day.String() + ":" + hex.EncodeToString(o.Name[:2])[:3]
}

func courierKey(c handoff.CourierRef) string { return prefix + "courier:" + c.Carrier + ":" + c.ID }

func budgetKey(c handoff.CourierRef) string { return prefix + "budget:" + c.Carrier + ":" + c.ID }

func clearingsKey(c handoff.CourierRef) string { return prefix + "clearings:" + c.Carrier + ":" + c.ID }

const buildingsKey = prefix + "buildings"

func buildingKey(id string) string { return prefix + "building:" + id }

func buildingDoorsKey(id string) string { return buildingKey(id) + ":doors" }

func residentsKey(id string) string { return buildingKey(id) + ":residents" }

func doorKey(id string) string { return prefix + "door:" + id }

func spentKey(id string) string { return prefix + "spent:" + id }

func feedKey(door string) string { return prefix + "feed:" + door }

func apiKeyKey(id string) string { return prefix + "apikey:" + id }

const apiKeysKey = prefix + "apikeys"

func patternKey(key string) string { return prefix + "pattern:" + key }

func countedKey(partition int) string { return partitionKey(partition, "counted") }

func numbersKey(partition int, day string) string {
	return partitionKey(partition, "numbers:"+day)
}

func probeKey(partition int) string { return partitionKey(partition, "probe") }

func onceKey(partition int) string { return partitionKey(partition, "once") }

func tallyKey(name string) string { return prefix + "tally:" + name }

func leaseKey(name string) string { return prefix + "lease:" + name }

func chainHeadKey(name string) string { return prefix + "chain:{" + name + "}:head" }

func chainEntriesKey(name string) string { return prefix + "chain:{" + name + "}:entries" }

const readersKey = prefix + "readers"

const epochKey = prefix + "epoch"

const chainsKey = prefix + "chains"

func marksKey(m residents.Mark) string {
	if m.Building == "" {
		return prefix + "marks:" + m.Of + ":" + m.Day.String()
	}
	return buildingKey(m.Building) + ":marks:" + m.Of + ":" + m.Day.String()
}

func sessionKey(id identity.SessionID) string { return sessionKeyOf(id.String()) }

func sessionKeyOf(id string) string { return prefix + "session:" + id }

// sessionsKey is a customer's, by a hash: an issuer chooses what a subject looks like.
func sessionsKey(c handoff.CustomerRef) string {
	sum := sha256.Sum256([]byte(c.Shop + "/" + c.ID))
	return prefix + "sessions:" + hex.EncodeToString(sum[:])
}

func shopSessionsKey(shop string) string { return prefix + "shopsessions:" + shop }

// courierSessionsKey is a courier's. No customer's hash has a control character in it.
func courierSessionsKey(c handoff.CourierRef) string {
	sum := sha256.Sum256([]byte("courier\x00" + c.Carrier + "/" + c.ID))
	return prefix + "sessions:" + hex.EncodeToString(sum[:])
}

func permitKey(id handoff.PermitID) string { return prefix + "permit:" + id.String() }

// versionBytes is a version as it stands before a sealed record; empty for "no grant".
func versionBytes(v service.Version) []byte {
	if v == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, uint64(v))
}

const versionLen = 8

// keyKind is what a key holds, in the words of the table above. Logs name it in place of the
// key, in which a person's id may stand.
func keyKind(key string) string {
	parts := strings.Split(strings.TrimPrefix(key, prefix), ":")
	if strings.HasPrefix(parts[0], "{") { // a partition
		parts = parts[1:]
	}
	kind := parts[0]
	for _, part := range parts[min(2, len(parts)):] {
		switch part {
		case "doors", "residents", "marks", "grants", "head", "entries":
			return kind + " " + part
		}
	}
	return kind
}
