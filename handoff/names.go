package handoff

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// ErrID says that an id from outside breaks the one rule for all of them.
var ErrID = errors.New("must match ^[A-Za-z0-9._-]{1,64}$, and a dot or two alone are no id")

// ErrLabel says that a text is no parcel id, however it is read.
var ErrLabel = errors.New("must be a parcel id, as typed from its label or read from it by a scanner")

// ErrDomain says that a text is no domain that mail can be sent to.
var ErrDomain = errors.New("is no domain")

// CheckID holds an id from outside (a parcel, shop, courier, ...) to
// ^[A-Za-z0-9._-]{1,64}$, so that it can be part of a key, a path and a log line as
// it is. A dot and two dots are no ids: paths and files give them a meaning. The error
// is ErrID.
func CheckID(id string) error {
	if len(id) == 0 || len(id) > 64 || id == "." || id == ".." {
		return ErrID
	}
	for _, c := range []byte(id) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return ErrID
		}
	}
	return nil
}

// ParcelHash is a keyed hash of a carrier and a parcel id: 96 bits as 24 hexadecimal
// digits. A grant is found from its parcel without an index, and the hash tells an
// outsider nothing.
type ParcelHash string

const hashLen = 24

// Partitions is how many ways the grants and their log are split. A hash's first
// digit chooses; a grant, its part of the log and its part of the schedule share one
// Redis Cluster slot.
const Partitions = 16

// HashParcel is the name under which the grants of a carrier's parcel are kept.
func HashParcel(names Namer, carrier, parcel string) ParcelHash {
	return ParcelHash(hex.EncodeToString(names.Name("grant", carrier, parcel)[:hashLen/2]))
}

// Partition is the hash's part of the sixteen.
func (h ParcelHash) Partition() int {
	n, err := strconv.ParseUint(string(h[:1]), 16, 8)
	if err != nil {
		panic("handoff: a ParcelHash that is not hexadecimal")
	}
	return int(n)
}

// Bytes are the hash's 12 bytes.
func (h ParcelHash) Bytes() []byte {
	b, err := hex.DecodeString(string(h))
	if err != nil {
		panic("handoff: a ParcelHash that is not hexadecimal")
	}
	return b
}

// GrantID names one generation of a parcel's grants. Outside it reads HASH-n.
type GrantID struct {
	Hash       ParcelHash
	Generation int // from 1
}

// ErrGrantID says that a text is not a grant id of ours.
var ErrGrantID = errors.New("is not a grant id")

// ParseGrantID reads what String writes. The error is ErrGrantID.
func ParseGrantID(text string) (GrantID, error) {
	hash, generation, ok := strings.Cut(text, "-")
	n, err := strconv.ParseUint(generation, 10, 16)
	if !ok || err != nil || n == 0 || generation[0] == '0' || len(hash) != hashLen || strings.Trim(hash, "0123456789abcdef") != "" {
		return GrantID{}, ErrGrantID
	}
	return GrantID{Hash: ParcelHash(hash), Generation: int(n)}, nil
}

// String is the id as callers see it.
func (id GrantID) String() string {
	if id == (GrantID{}) {
		return ""
	}
	return string(id.Hash) + "-" + strconv.Itoa(id.Generation)
}

// enum gives small integer types their names. Unknown values print as such and
// never parse, so that what we do not know is refused.
type enum[T ~uint8] []string

func (names enum[T]) name(v T) string {
	if int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return "unknown(" + strconv.Itoa(int(v)) + ")"
}

func (names enum[T]) parse(text string) (T, bool) {
	for i, n := range names {
		if n == text && n != "" {
			return T(i), true
		}
	}
	return 0, false
}

var (
	actNames = enum[Act]{
		Release: "release", Collect: "collect", Open: "open", Mint: "mint", Abort: "abort", Attempt: "attempted",
		Recall: "recall", Reschedule: "reschedule", Resend: "resend", Reissue: "reissue", Expire: "expire",
		Hold: "hold", Lift: "lift", Consent: "consent", Report: "report", Erase: "erase",
		Distrust: "distrust", Confirm: "confirm", AccountFor: "account",
		AskOverride: "ask-override", Override: "override",
		DisputeHandoff: "dispute", WithdrawDispute: "withdraw-dispute", SettleDispute: "settle-dispute", ConfirmConsent: "confirm-consent",
		TellMail: "tell-mail",
	}
	targetNames = enum[TargetKind]{Parcel: "parcel", Lobby: "lobby", Gate: "gate", Garage: "garage", Home: "home"}
	proofNames  = enum[Proof]{
		ProofCourier: "courier", ProofRoute: "route", ProofParcel: "parcel", ProofTime: "time", ProofPlace: "place",
		ProofBuilding: "building", ProofPresence: "presence", ProofConsent: "consent", ProofCode: "code", ProofApproval: "approval",
	}
	statusNames = enum[Status]{
		Active: "active", Released: "released", Collected: "collected", Recalled: "recalled", Expired: "expired", Held: "held",
	}
	rulingNames = enum[Ruling]{Withdrawn: "withdrawn", HandedOver: "handed-over", NotReceived: "not-received"}
	mailNames   = enum[MailState]{MailNone: "none", MailAccepted: "accepted", MailDelivered: "delivered", MailFailed: "failed", MailSeen: "seen"}
	resultNames = enum[Result]{OK: "ok", Failed: "failed", Missing: "missing", NotChecked: "not-checked"}
)

func (a Act) String() string { return actNames.name(a) }

func (t TargetKind) String() string { return targetNames.name(t) }

func (p Proof) String() string { return proofNames.name(p) }

func (s Status) String() string { return statusNames.name(s) }

func (r Ruling) String() string { return rulingNames.name(r) }

// ParseRuling reads a ruling's name.
func ParseRuling(name string) (Ruling, bool) { return rulingNames.parse(name) }

func (s MailState) String() string { return mailNames.name(s) }

// ParseMailState reads a state's name.
func ParseMailState(name string) (MailState, bool) { return mailNames.parse(name) }

func (r Result) String() string { return resultNames.name(r) }

// ParseTarget reads a target's name.
func ParseTarget(name string) (TargetKind, bool) { return targetNames.parse(name) }

// ProofSet is a set of proofs, one bit each.
type ProofSet uint16

// Proofs makes a set.
func Proofs(ps ...Proof) ProofSet {
	var s ProofSet
	for _, p := range ps {
		s |= 1 << p
	}
	return s
}

// Has reports whether p is in the set.
func (s ProofSet) Has(p Proof) bool { return s&(1<<p) != 0 }

// Names lists the set in the order of a verdict.
func (s ProofSet) Names() []string {
	var names []string
	for p := range numProofs {
		if s.Has(p) {
			names = append(names, p.String())
		}
	}
	return names
}

// ResidentID names a resident of one building: 96 bits in hexadecimal.
type ResidentID string

const ResidentIDLen = 24

// ManagerID is the building's manager, in whose place it is noted what the manager was
// told. The address is the building's.
const ManagerID ResidentID = "000000000000000000000000"

// ParseResidentID reads the id of a resident.
func ParseResidentID(text string) (ResidentID, bool) {
	ok := len(text) == ResidentIDLen && strings.Trim(text, "0123456789abcdef") == ""
	return ResidentID(text), ok && ResidentID(text) != ManagerID
}

// Namer is a keyed hash (a pseudo-random function of at least 32 bytes) over a list
// of parts. Its key never rotates, since grants are found by it.
type Namer interface {
	Name(domain string, parts ...string) []byte
}

// Pseudonym is a keyed hash of a person's or a thing's id, 8 bytes in hexadecimal: the same
// each time, so that a trail can be followed, and meaningless without the key. Of an
// empty subject it is empty.
func Pseudonym(names Namer, domain, subject string) string {
	if subject == "" {
		return ""
	}
	return hex.EncodeToString(names.Name(domain, subject)[:8])
}

// DoorRef names a grant to a door: the same each time, and nothing that the door could
// know the grant by.
func DoorRef(names Namer, id GrantID) (ref [8]byte) {
	copy(ref[:], names.Name("door", id.String()))
	return ref
}
