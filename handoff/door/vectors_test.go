package door

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

var update = flag.Bool("update", false, "write the golden vectors and the fuzz seeds anew")

// vectors are fixed messages by fixed keys, for other implementations to check
// themselves by. All bytes are in hexadecimal, all times in Unix seconds.
type vectors struct {
	Comment string          `json:"comment"`
	Keys    map[string]seed `json:"keys"`
	Vectors []vector        `json:"vectors"`
	PINs    pinVectors      `json:"pins"`
}

type seed struct {
	Seed   string `json:"ed25519_seed"`
	Public string `json:"public"`
	KeyID  string `json:"kid"`
}

type vector struct {
	Name     string         `json:"name"`
	Key      string         `json:"key"`
	Content  map[string]any `json:"content"`
	External string         `json:"external_aad"`
	Message  string         `json:"message"`
}

type pinVectors struct {
	Key  string      `json:"key"`
	PINs []pinVector `json:"pins"`
}

type pinVector struct {
	Minute uint64 `json:"minute"`
	PIN    string `json:"pin"`
	Permit string `json:"permit_id"`
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func golden(t testing.TB) vectors {
	v := vectors{
		Comment: "Messages of latchkey/handoff/door, version 1. Keys are for tests only.",
		Keys:    map[string]seed{},
	}
	for name, k := range map[string]PrivateKey{"signing": signer.current, "root": root, "door": doorKey} {
		public, kid := k.Public(), k.Public().ID()
		v.Keys[name] = seed{hexOf(k.ed25519.Seed()), hexOf(public[:]), hexOf(kid[:])}
	}
	add := func(name, key string, content map[string]any, aad, message []byte) {
		v.Vectors = append(v.Vectors, vector{name, key, content, hexOf(aad), hexOf(message)})
	}

	plain := newPermit(t, "vector 1", theDoor, nil, noon)
	present := newPermit(t, "vector 2", longest64, bytes.Repeat([]byte{0xc5}, maxChallenge), noon)
	present.Relock = MaxRelock
	permit := func(name string, p Permit) {
		add(name, "signing", map[string]any{
			"cti": p.ID.String(), "door": p.Door, "grant": p.Grant.String(), "act": p.Act,
			"nbf": p.NotBefore.Unix(), "exp": p.Expires.Unix(), "challenge": hexOf(p.Challenge), "relock": int(p.Relock.Seconds()),
		}, p.bound(), signed(t, signer, p))
	}
	permit("a permit", plain)
	permit("a permit of the longest door id, challenge and relock delay", present)

	recall := Recall{Door: theDoor, Permit: plain.ID, Expires: plain.Expires}
	add("a recall", "signing", map[string]any{
		"door": recall.Door, "permit": recall.Permit.String(), "exp": recall.Expires.Unix(),
	}, bound(recallPurpose, theDoor), check(signer.Recall(recall))(t))

	list := Revocation{Serial: 3, At: noon, Revoked: []KeyID{signer.current.Public().ID()}, Trusted: []PublicKey{signer.next.Public()}}
	add("a revocation list", "root", map[string]any{
		"serial": list.Serial, "iat": list.At.Unix(), "revoked": []string{hexOf(list.Revoked[0][:])}, "trusted": []string{hexOf(list.Trusted[0][:])},
	}, bound(revocationPurpose), check(list.Sign(root))(t))

	for _, r := range []Report{
		{theDoor, 41, noon, Opened, plain.ID, 0},
		{theDoor, 42, noon.Add(5 * time.Second), Refused, PermitID{}, BadSignature},
	} {
		content := map[string]any{"door": r.Door, "seq": r.Seq, "iat": r.At.Unix(), "state": r.State, "permit": "", "refusal": r.Refusal}
		if !r.Permit.IsZero() {
			content["permit"] = r.Permit.String()
		}
		add("a report: "+r.State.String(), "door", content, bound(reportPurpose, r.Door), check(r.Sign(doorKey))(t))
	}

	key := pinKey(t)
	v.PINs.Key = hexOf(key.key)
	for i := range uint64(3) {
		m := Minute(noon) + i
		v.PINs.PINs = append(v.PINs.PINs, pinVector{m, check(key.PIN(m))(t), check(key.Permit(m))(t).String()})
	}
	return v
}

func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors.json")
	got := check(json.Marshal(golden(t), json.Deterministic(true), jsontext.WithIndent("  ")))(t)
	got = append(got, '\n')
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := check(os.ReadFile(path))(t)
	if !bytes.Equal(got, want) {
		t.Errorf("the wire format changed: doors in the field cannot read it. It is now\n%s", got)
	}
	var v vectors
	if err := json.Unmarshal(want, &v); err != nil {
		t.Fatal(err)
	}
	for _, vec := range v.Vectors {
		e := check(parse(unhex(vec.Message), maxRevocation))(t)
		var key PublicKey
		copy(key[:], unhex(v.Keys[vec.Key].Public))
		if err := e.verify(key, unhex(vec.External)); err != nil {
			t.Errorf("%s: %v", vec.Name, err)
		}
	}
}

// The doc comment's example is the first vector.
func TestDocExample(t *testing.T) {
	doc := string(check(os.ReadFile("doc.go"))(t))
	var shown strings.Builder
	for _, line := range strings.Split(doc, "\n") {
		if _, h, ok := strings.Cut(line, "//\t| "); ok {
			h, _, _ = strings.Cut(h, "|")
			shown.WriteString(strings.ReplaceAll(h, " ", ""))
		}
	}
	if want := golden(t).Vectors[0].Message; shown.String() != want {
		t.Errorf("doc.go shows\n%s, the permit is\n%s", shown.String(), want)
	}
}
