package service

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"latchkey/handoff"
	"latchkey/otp"
)

// fill sets everything that v holds to something that is not zero, so that a field
// which somebody forgets to encode shows as different.
func fill(t *testing.T, v reflect.Value, path string, n *int) {
	t.Helper()
	*n++
	if v.Type() == reflect.TypeFor[otp.Secret]() {
		if err := v.Addr().Interface().(*otp.Secret).UnmarshalBinary([]byte("12345678901234567890")); err != nil {
			t.Fatal(err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(t, v.Field(i), path+"."+f.Name, n)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path, n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), fmt.Sprintf("%s[%d]", path, i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), fmt.Sprintf("%s[%d]", path, i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 256))
	default:
		t.Fatalf("%s is a %s, which this test does not know", path, v.Kind())
	}
}

func TestRecordRoundTrip(t *testing.T) {
	var full, got Record
	fields := 0
	fill(t, reflect.ValueOf(&full).Elem(), "Record", &fields)
	full.Grant.ID = handoff.GrantID{} // the store's key says it
	b, err := cbor.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := cbor.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, full) {
		t.Errorf("got\n%+v\nwant\n%+v", got, full)
	}
	if fields < 100 {
		t.Errorf("only %d fields were filled", fields)
	}
	numbered(t, reflect.TypeFor[Record]())
	numbered(t, reflect.TypeFor[handoff.Event]())
}

func TestEventRoundTrip(t *testing.T) {
	var full, got handoff.Event
	fields := 0
	fill(t, reflect.ValueOf(&full).Elem(), "Event", &fields)
	full.Grant = handoff.GrantID{}
	b, err := cbor.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := cbor.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, full) {
		t.Errorf("got\n%+v\nwant\n%+v", got, full)
	}
}

// A grant without a code has no secret, and is stored without one.
func TestAGrantWithoutACodeIsStored(t *testing.T) {
	b, err := cbor.Marshal(Record{Grant: handoff.Grant{Status: handoff.Active}})
	if err != nil {
		t.Fatal(err)
	}
	var got Record
	if err := cbor.Unmarshal(b, &got); err != nil || got.Grant.Status != handoff.Active {
		t.Errorf("%+v, %v", got, err)
	}
}

// numbered holds every stored struct to a number of its own for each field, or to an
// array: a field that is stored by its Go name could not be renamed.
func numbered(t *testing.T, typ reflect.Type) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[otp.Secret]() {
		return
	}
	if f, ok := typ.FieldByName("_"); ok && f.Tag.Get("cbor") == ",toarray" {
		return
	}
	seen := map[string]string{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag := f.Tag.Get("cbor")
		if tag == "-" || !f.IsExported() {
			continue
		}
		number, options, _ := strings.Cut(tag, ",")
		if !strings.Contains(options, "keyasint") || seen[number] != "" {
			t.Errorf("%s.%s has the tag %q, like %s", typ, f.Name, tag, seen[number])
		}
		seen[number] = f.Name
		numbered(t, f.Type)
	}
}

// Equal is asked with one dispatch from the network and one from the store: what they
// say counts, not whether an empty list is nil.
func TestEqualSurvivesTheStore(t *testing.T) {
	sent := handoff.Dispatch{Parcel: "p1", Categories: []string{}, To: handoff.Destination{Lines: []string{}}}
	b, err := cbor.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var stored handoff.Dispatch
	if err := cbor.Unmarshal(b, &stored); err != nil {
		t.Fatal(err)
	}
	if !stored.Equal(&sent) {
		t.Error("a dispatch sent again differs from itself as stored")
	}
}
