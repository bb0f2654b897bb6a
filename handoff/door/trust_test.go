package door

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

func revocation(serial uint64, revoked ...PublicKey) Revocation {
	r := Revocation{Serial: serial, At: noon}
	for _, k := range revoked {
		r.Revoked = append(r.Revoked, k.ID())
	}
	return r
}

func TestRevocation(t *testing.T) {
	door := newStation(t, theDoor, false)
	admit := func(s *Signer, name string) error {
		_, err := door.verifier.Admit(signed(t, s, newPermit(t, name, theDoor, nil, noon)), noon)
		return err
	}
	apply := func(key PrivateKey, r Revocation) error {
		return door.trust.Apply(check(r.Sign(key))(t))
	}
	rotated := check(signer.Rotate())(t)
	stolen := signer.current
	wants(t, admit(signer, "before"), 0)
	wants(t, apply(root, revocation(2, stolen.Public())), 0)
	wants(t, admit(signer, "after"), RevokedKey)
	wants(t, admit(rotated, "the other key"), 0)

	// The thief cannot take the key off the list, nor bring an older one back.
	wants(t, apply(stolen, revocation(3)), UnknownKey)
	wants(t, apply(rotated.current, revocation(3)), UnknownKey)
	wants(t, apply(root, revocation(1)), OldList)
	wants(t, apply(root, revocation(2)), OldList)            // another list of the same serial
	wants(t, apply(root, revocation(2, stolen.Public())), 0) // the same list again
	wants(t, admit(signer, "still"), RevokedKey)
	recall := check(signer.Recall(Recall{theDoor, PermitID{1}, noon}))(t)
	_, err := door.verifier.Recall(recall, noon)
	wants(t, err, RevokedKey)

	door.restart(t)
	if door.trust.Serial() != 2 {
		t.Errorf("serial %d", door.trust.Serial())
	}
	wants(t, admit(signer, "after a restart"), RevokedKey)
	wants(t, apply(root, revocation(1)), OldList)

	// New keys come the same way, and a revoked one is not trusted whatever else says so.
	wants(t, admit(foreignSigner, "unknown"), UnknownKey)
	list := revocation(7, stolen.Public())
	list.Trusted = []PublicKey{foreignSigner.current.Public(), stolen.Public(), root.Public()}
	wants(t, apply(root, list), 0)
	wants(t, admit(foreignSigner, "known by the list"), 0)
	wants(t, admit(signer, "both revoked and trusted"), RevokedKey)
	wants(t, admit(&Signer{current: root}, "the root key opens nothing"), UnknownKey)
	wants(t, apply(root, revocation(8)), 0)
	wants(t, admit(foreignSigner, "no longer on the list"), UnknownKey)
}

func TestRevocationForm(t *testing.T) {
	full := Revocation{Serial: 1<<64 - 1, At: noon}
	for i := range maxRevoked {
		full.Revoked = append(full.Revoked, KeyID{byte(i)})
	}
	for i := range maxTrusted {
		full.Trusted = append(full.Trusted, privateKey(fmt.Sprint(i)).Public())
	}
	raw := check(full.Sign(root))(t)
	if len(raw) > maxRevocation || len(raw) > trustSlot-slotFrame {
		t.Errorf("%d bytes", len(raw))
	}
	got := check(ParseRevocation(raw, root.Public()))(t)
	if !got.equal(full) || got.Serial != full.Serial {
		t.Errorf("%+v", got)
	}
	for bit := range len(raw) * 8 {
		if _, err := ParseRevocation(flip(raw, bit), root.Public()); err == nil {
			t.Fatalf("bit %d does not matter", bit)
		}
	}
	for name, r := range map[string]Revocation{
		"no serial":        {At: noon},
		"no time":          {Serial: 1},
		"too many revoked": {Serial: 1, At: noon, Revoked: make([]KeyID, maxRevoked+1)},
		"too many trusted": {Serial: 1, At: noon, Trusted: make([]PublicKey, maxTrusted+1)},
		"a zero key":       {Serial: 1, At: noon, Trusted: make([]PublicKey, 1)},
	} {
		if _, err := r.Sign(root); err == nil {
			t.Errorf("%s: signed", name)
		}
		c := &revocationClaims{Own: revocationOwn{Serial: r.Serial, Revoked: r.Revoked, Trusted: r.Trusted}}
		if !r.At.IsZero() {
			c.IssuedAt = uint32(r.At.Unix())
		}
		_, err := ParseRevocation(check(sign(root, c, bound(revocationPurpose)))(t), root.Public())
		wants(t, err, Malformed)
	}
	p := check(signer.Permit(newPermit(t, "a permit", theDoor, nil, noon)))(t)
	_, err := ParseRevocation(p, signer.current.Public())
	wants(t, err, BadSignature)
}

func TestTrustRefuses(t *testing.T) {
	door := newStation(t, theDoor, false)
	if err := door.trust.Apply(check(revocation(1).Sign(root))(t)); err != nil {
		t.Fatal(err)
	}
	_ = door.trust.Close()
	for name, open := range map[string]func() (*Trust, error){
		"no root":            func() (*Trust, error) { return OpenTrust(door.path("trust"), PublicKey{}, signer.Publish()...) },
		"no keys":            func() (*Trust, error) { return OpenTrust(door.path("trust"), root.Public()) },
		"a zero key":         func() (*Trust, error) { return OpenTrust(door.path("trust"), root.Public(), PublicKey{}) },
		"root and key alike": func() (*Trust, error) { return OpenTrust(door.path("trust"), root.Public(), root.Public()) },
		"another root's list": func() (*Trust, error) {
			return OpenTrust(door.path("trust"), doorKey.Public(), signer.Publish()...)
		},
		"no file": func() (*Trust, error) { return OpenTrust(door.path("nowhere"), root.Public(), signer.Publish()...) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	check(OpenTrust(door.path("trust"), root.Public(), signer.Publish()...))(t) // none of them kept the lock
}

// A list is either on the disk and in force, or neither.
func TestTrustTorn(t *testing.T) {
	door := newStation(t, theDoor, false)
	first := check(revocation(1, signer.current.Public()).Sign(root))(t)
	if err := door.trust.Apply(first); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(door.path("trust.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	wants(t, door.trust.Apply(check(revocation(2).Sign(root))(t)), NoMemory)
	if door.trust.Serial() != 1 {
		t.Error("in force, but not on the disk")
	}
}

func TestRotation(t *testing.T) {
	s := newSigner("rotation")
	published := s.Publish()
	if len(published) != 2 || published[0] == published[1] {
		t.Fatalf("published %v", published)
	}
	r := check(s.Rotate())(t)
	if got := r.Publish(); got[0] != published[1] || got[1] != published[0] {
		t.Errorf("after a rotation %v", got)
	}
	if _, err := r.Rotate(); err == nil {
		t.Error("rotated back to the previous key")
	}
	n := check(r.Stage(&stream{name: "third"}))(t)
	if got := n.Publish(); got[0] != published[1] || got[1] == published[0] || len(got) != 2 {
		t.Errorf("after staging %v", got)
	}
	for _, s := range []*Signer{s, r, n} {
		again := check(ParseSigner(check(s.JSON())(t)))(t)
		if fmt.Sprint(again.Publish()) != fmt.Sprint(s.Publish()) || !bytes.Equal(again.current.ed25519, s.current.ed25519) {
			t.Error("not the same after a round through the file")
		}
		if _, err := again.Rotate(); (err == nil) != (s.next.ed25519 != nil) {
			t.Error("the file confuses next and previous")
		}
	}
}

func TestKeyFiles(t *testing.T) {
	set := signer.Publish()
	b := check(json.Marshal(set))(t)
	if strings.Contains(string(b), `"d"`) {
		t.Fatalf("published a private key: %s", b)
	}
	var again KeySet
	if err := json.Unmarshal(b, &again); err != nil || fmt.Sprint(again) != fmt.Sprint(set) {
		t.Errorf("%v: %s", err, b)
	}
	private := string(check(doorKey.JWK())(t))
	if k := check(ParsePrivateKey([]byte(private)))(t); k.Public() != doorKey.Public() {
		t.Error("another key")
	}
	other := privateKey("other").Public()
	for name, text := range map[string]string{
		"nothing":            ``,
		"no key":             `{}`,
		"a public key":       string(check(json.Marshal(doorKey.Public().jwk()))(t)),
		"P-256":              strings.Replace(private, "Ed25519", "P-256", 1),
		"RSA":                strings.Replace(private, "OKP", "RSA", 1),
		"for encryption":     strings.Replace(private, `"sig"`, `"enc"`, 1),
		"another's x":        strings.Replace(strings.Replace(private, doorKey.Public().String(), other.String(), 1), doorKey.Public().ID().String(), other.ID().String(), 1),
		"another's kid":      strings.Replace(private, doorKey.Public().ID().String(), other.ID().String(), 1),
		"twice the same":     strings.Replace(private, `{`, `{"kty":"OKP",`, 1),
		"x with padding":     strings.Replace(private, doorKey.Public().String(), doorKey.Public().String()+"=", 1),
		"another alg":        strings.Replace(private, "EdDSA", "ES256", 1),
		"something after it": private + "{}",
	} {
		if _, err := ParsePrivateKey([]byte(text)); err == nil {
			t.Errorf("%s: parsed", name)
		} else if len(text) > 60 && strings.Contains(err.Error(), base64url.EncodeToString(doorKey.ed25519.Seed())[:8]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	if _, err := ParseSigner([]byte(`{"current":` + private + `,"next":` + private + `,"previous":` + private + `}`)); err == nil {
		t.Error("next and previous at once")
	}
	if err := new(KeySet).UnmarshalJSON([]byte(`{"keys":[` + private + `]}`)); err == nil {
		t.Error("a private key in a public set")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	pin := pinKey(t)
	seed := doorKey.ed25519.Seed()
	logger.Info("door", "key", doorKey, "pin", pin)
	text := fmt.Sprintf("%v %+v %#v %s %x %q %d", doorKey, doorKey, doorKey, doorKey, doorKey, doorKey, doorKey) +
		fmt.Sprintf("%v %+v %#v %s %x %q %d", pin, pin, pin, pin, pin, pin, pin) +
		string(check(json.Marshal([]any{doorKey, pin}))(t)) + log.String()
	for _, secret := range [][]byte{seed, pin.key} {
		for _, form := range []string{string(secret[:6]), fmt.Sprintf("%x", secret[:6]), fmt.Sprint(secret[:6])[1:12], base64url.EncodeToString(secret)[:8]} {
			if strings.Contains(text, form) {
				t.Errorf("a secret in %q", text)
			}
		}
	}
	if !strings.Contains(text, redacted) {
		t.Errorf("prints %q", text)
	}
}
