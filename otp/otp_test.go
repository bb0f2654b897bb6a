package otp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
)

func mustSecret(t testing.TB, b []byte) Secret {
	t.Helper()
	var s Secret
	if err := s.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	return s
}

// The values of RFC 4226, appendix D.
func TestAppendixD(t *testing.T) {
	secret := mustSecret(t, []byte("12345678901234567890"))
	want := []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"}
	for counter, digits := range want {
		code, err := secret.At(uint64(counter))
		if err != nil {
			t.Fatal(err)
		}
		if got := code.Reveal(); got != digits {
			t.Errorf("counter %d: got %s, want %s", counter, got, digits)
		}
	}
}

// Pearson's chi-square over each digit position and over the thousand leading
// triples. The source is seeded, so the test is the same on every run; the bounds
// are the 99.9th percentiles for 9 and 999 degrees of freedom.
func TestUniformity(t *testing.T) {
	const n = 100_000
	source := rand.NewChaCha8([32]byte{1})
	var positions [Digits][10]int
	var triples [1000]int
	for range n / 10 {
		secret, err := NewSecret(source)
		if err != nil {
			t.Fatal(err)
		}
		for counter := range uint64(10) {
			code, err := secret.At(counter)
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range code.digits {
				positions[i][d-'0']++
			}
			triples[int(code.digits[0]-'0')*100+int(code.digits[1]-'0')*10+int(code.digits[2]-'0')]++
		}
	}
	for i := range positions {
		if x := chiSquare(positions[i][:], n); x > 27.88 {
			t.Errorf("digit %d: chi-square %.1f is beyond 27.88", i, x)
		}
	}
	if x := chiSquare(triples[:], n); x > 1142.9 {
		t.Errorf("leading triples: chi-square %.1f is beyond 1142.9", x)
	}
}

func chiSquare(counts []int, n int) float64 {
	expected := float64(n) / float64(len(counts))
	var x float64
	for _, c := range counts {
		d := float64(c) - expected
		x += d * d / expected
	}
	return x
}

func TestParse(t *testing.T) {
	for _, good := range []string{"000000", "123456", "999999"} {
		code, err := Parse(good)
		if err != nil || code.Reveal() != good {
			t.Errorf("Parse(%q) = %q, %v", good, code.Reveal(), err)
		}
	}
	for _, bad := range []string{"", "12345", "1234567", " 12345", "12345\n", "12 345", "+12345", "-12345", "12345a", "１２３４５６", "\x00\x00\x00\x00\x00\x00"} {
		_, err := Parse(bad)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("Parse(%q) = %v, want ErrMalformed", bad, err)
		}
		if bad != "" && err != nil && strings.Contains(err.Error(), bad) {
			t.Errorf("Parse(%q) echoes its input", bad)
		}
	}
}

func TestEqual(t *testing.T) {
	a, _ := Parse("123456")
	b, _ := Parse("123456")
	c, _ := Parse("123457")
	switch {
	case !a.Equal(b):
		t.Error("equal codes differ")
	case a.Equal(c):
		t.Error("different codes match")
	case (Code{}).Equal(Code{}):
		t.Error("no code matched no code")
	}
}

func TestEmptySecretMintsNothing(t *testing.T) {
	if _, err := (Secret{}).At(0); !errors.Is(err, ErrSecret) {
		t.Errorf("zero secret minted a code: %v", err)
	}
	if _, err := NewSecret(bytes.NewReader(make([]byte, secretSize))); !errors.Is(err, ErrSecret) {
		t.Errorf("a source of zeros gave a secret: %v", err)
	}
	if _, err := NewSecret(bytes.NewReader([]byte("short"))); err == nil {
		t.Error("a short source gave a secret")
	}
	var s Secret
	for _, b := range [][]byte{nil, make([]byte, secretSize), []byte("short")} {
		if err := s.UnmarshalBinary(b); !errors.Is(err, ErrSecret) {
			t.Errorf("UnmarshalBinary(%d bytes) = %v", len(b), err)
		}
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	secret := mustSecret(t, []byte("12345678901234567890"))
	code, _ := secret.At(0)
	holder := struct {
		Secret Secret
		Code   *Code
		Plain  Code
	}{secret, &code, code}

	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%T %v"} {
		if verb == "%T %v" {
			fmt.Fprintf(&printed, verb+"\n", code, code)
			continue
		}
		fmt.Fprintf(&printed, verb+"\n", code)
		fmt.Fprintf(&printed, verb+"\n", &code)
		fmt.Fprintf(&printed, verb+"\n", secret)
		fmt.Fprintf(&printed, verb+"\n", holder)
	}
	b, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	printed.Write(b)
	for _, h := range []slog.Handler{slog.NewJSONHandler(&printed, nil), slog.NewTextHandler(&printed, nil)} {
		slog.New(h).Info("x", "code", code, "secret", secret, "holder", holder)
	}
	out := printed.String()
	for _, leak := range []string{"755224", "12345678901234567890", "37 35 35", "373535", "[55 53 53", "49 50 51", "0x31, 0x32"} {
		if strings.Contains(out, leak) {
			t.Errorf("printed output holds %q", leak)
		}
	}
	if n := strings.Count(out, redacted); n < 40 {
		t.Errorf("only %d redactions: did anything print?", n)
	}
}

// Every one of the million codes is held against the definition, for codes whose digits
// are all different, all the same, and paired.
func TestSlip(t *testing.T) {
	for code, want := range map[string]int{"123456": 59, "000000": 54, "112233": 56, "909090": 59} {
		c, err := Parse(code)
		if err != nil {
			t.Fatal(err)
		}
		slips := map[string]bool{}
		for i := range Digits {
			for d := byte('0'); d <= '9'; d++ {
				changed := []byte(code)
				changed[i] = d
				slips[string(changed)] = true
			}
			if i > 0 {
				swapped := []byte(code)
				swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
				slips[string(swapped)] = true
			}
		}
		delete(slips, code)
		if len(slips) != want {
			t.Errorf("%d codes are a slip, want %d", len(slips), want)
		}
		for n := range 1_000_000 {
			text := fmt.Sprintf("%06d", n)
			said, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Slip(said); got != slips[text] || got != said.Slip(c) {
				t.Fatalf("Slip is %v for %s said for %s", got, text, code)
			}
		}
		if c.Slip(Code{}) || (Code{}).Slip(c) || (Code{}).Slip(Code{}) {
			t.Error("no code is a slip")
		}
	}
}
