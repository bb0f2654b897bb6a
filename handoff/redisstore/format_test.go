package redisstore

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"latchkey/handoff"
	"latchkey/handoff/identity"
	"latchkey/handoff/residents"
	"latchkey/handoff/service"
	"latchkey/handoff/trail"
	"latchkey/otp"
)

var update = flag.Bool("update", false, "add new fields and new enumeration values to testdata; what stands there is never changed")

// stored are the types that the store writes as CBOR.
var stored = map[string]any{
	"grant": service.Record{}, "event": handoff.Event{}, "failures": failures{},
	"building": handoff.Building{}, "door": handoff.Door{}, "resident": residents.Resident{},
	"apikey": identity.APIKey{}, "session": identity.Session{}, "chainhead": trail.End{}, "epoch": Epoch{},
	"clearing": service.Clearing{},
}

// The encoding of every stored type stands in testdata: the whole of a filled value, and
// each field by its number. A number that moved, that was given to another field or whose
// type changed would make stored values unreadable, or worse, readable as something else.
func TestStoredFormats(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		t.Run(name, func(t *testing.T) {
			filled := reflect.New(reflect.TypeOf(stored[name]))
			fillValue(t, name, filled.Elem())
			whole, err := encode(name, filled.Interface())
			if err != nil {
				t.Fatal(err)
			}
			var generic any
			if err := decoder.Unmarshal(whole[1:], &generic); err != nil {
				t.Fatal(err)
			}
			fields := map[string]string{}
			list(t, fields, filled.Elem().Type(), generic, "", "")

			path := filepath.Join("testdata", name+".hex")
			golden := readGolden(t, path)
			problems := moved(golden.fields, fields)
			for _, number := range slices.Sorted(maps.Keys(fields)) {
				if _, held := golden.fields[number]; !held {
					if *update {
						golden.fields[number] = fields[number]
						continue
					}
					problems = append(problems, fmt.Sprintf("%s, %s, is new: go test ./handoff/redisstore -run TestStoredFormats -update", number, nameOf(fields[number])))
				}
			}
			for _, p := range problems {
				t.Error(p)
			}
			if *update && len(problems) == 0 {
				golden.whole = whole
				golden.write(t, path)
			}
			// Today's code reads what the program that was frozen wrote.
			read := reflect.New(filled.Elem().Type())
			if err := decode(name, golden.whole, read.Interface()); err != nil {
				t.Fatal(err)
			}
			again, err := encode(name, read.Interface())
			if err != nil || !bytes.Equal(again, whole) {
				t.Errorf("the value in testdata is read as another: %v", err)
			}
		})
	}
}

// moved says what is not as it was frozen: a number that became another field's, or a field
// whose number or encoding changed. A field that was removed keeps its number reserved.
func moved(golden, now map[string]string) []string {
	numbers := map[string]string{} // by name
	for number, field := range now {
		numbers[nameOf(field)] = number
	}
	var problems []string
	for _, number := range slices.Sorted(maps.Keys(golden)) {
		was := golden[number]
		if at, there := numbers[nameOf(was)]; there && at != number {
			problems = append(problems, fmt.Sprintf("%s moved from number %s to %s", nameOf(was), number, at))
		}
		is, there := now[number]
		switch {
		case !there || is == was:
		case nameOf(is) != nameOf(was):
			problems = append(problems, fmt.Sprintf("number %s is %s's and was given to %s", number, nameOf(was), nameOf(is)))
		default:
			problems = append(problems, fmt.Sprintf("%s is encoded in another way: %s, was %s", nameOf(is), is, was))
		}
	}
	return problems
}

func nameOf(field string) string {
	name, _, _ := strings.Cut(field, " ")
	return name
}

func TestMovedFieldsAreNamed(t *testing.T) {
	golden := map[string]string{"1": "a.A 01", "2": "a.B 02", "3": "a.Gone 03", "4": "a.C 04"}
	for what, c := range map[string]struct {
		now  map[string]string
		want []string
	}{
		"as it was":        {map[string]string{"1": "a.A 01", "2": "a.B 02", "4": "a.C 04", "5": "a.New 05"}, nil},
		"another encoding": {map[string]string{"1": "a.A 6131"}, []string{"a.A is encoded in another way: a.A 6131, was a.A 01"}},
		"exchanged": {map[string]string{"1": "a.B 02", "2": "a.A 01"}, []string{
			"a.A moved from number 1 to 2", "number 1 is a.A's and was given to a.B", "a.B moved from number 2 to 1", "number 2 is a.B's and was given to a.A",
		}},
		"used again": {map[string]string{"3": "a.New 05"}, []string{"number 3 is a.Gone's and was given to a.New"}},
	} {
		if got := moved(golden, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

// list enters the leaves of a decoded value under their numbers, each with its name and encoding.
func list(t *testing.T, fields map[string]string, typ reflect.Type, v any, numbers, names string) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ.Kind() == reflect.Slice && isRecord(typ.Elem()):
		list(t, fields, typ.Elem(), v.([]any)[0], numbers+"[]", names)
	case !isRecord(typ):
		leaf, err := encoder.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fields[numbers] = names + " " + hex.EncodeToString(leaf)
	default:
		seen := 0
		for i := range typ.NumField() {
			f := typ.Field(i)
			number, is := numberOf(f)
			if !is {
				continue
			}
			var member any
			if number == "" { // of an array
				member, number = v.([]any)[seen], strconv.Itoa(seen)
			} else {
				key, err := strconv.ParseUint(number, 10, 64)
				if err != nil {
					t.Fatalf("%s.%s has no number", typ, f.Name)
				}
				var there bool
				if member, there = v.(map[any]any)[key]; !there {
					t.Fatalf("%s.%s is not encoded under %s: does another field have its number?", typ, f.Name, number)
				}
			}
			seen++
			list(t, fields, f.Type, member, strings.TrimPrefix(numbers+"."+number, "."), strings.TrimPrefix(names+"."+f.Name, "."))
		}
		if n := reflect.ValueOf(v).Len(); n != seen {
			t.Errorf("%s has %d fields and %d are encoded", typ, seen, n)
		}
	}
}

// numberOf is a field's number: empty within an array. It reports false for what is not stored.
func numberOf(f reflect.StructField) (number string, is bool) {
	tag, tagged := f.Tag.Lookup("cbor")
	switch number, _, _ = strings.Cut(tag, ","); {
	case number == "-" || !f.IsExported():
		return "", false
	case !tagged:
		return "", true
	}
	return number, true
}

// isRecord reports whether a type is a struct whose fields are encoded one by one.
func isRecord(typ reflect.Type) bool {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ.Kind() == reflect.Struct && typ != reflect.TypeFor[otp.Secret]() && typ != reflect.TypeFor[netip.Prefix]()
}

// fillValue gives every stored field a value that depends on its name alone, none of them zero.
func fillValue(t *testing.T, name string, v reflect.Value) {
	h := fnv.New32a()
	_, _ = io.WriteString(h, name)
	sum := h.Sum(nil)
	switch v.Interface().(type) {
	case otp.Secret:
		var secret otp.Secret
		if err := secret.UnmarshalBinary(bytes.Repeat(sum, 5)); err != nil {
			t.Fatal(err)
		}
		v.Set(reflect.ValueOf(secret))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte(sum)), 32)))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(t, name, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if _, is := numberOf(v.Type().Field(i)); is {
				fillValue(t, v.Type().Name()+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(sum)
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillValue(t, name, v.Index(0))
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(sum[i%len(sum)]))
		}
	case reflect.Map: // of texts by number
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(int(sum[0])), reflect.ValueOf(name))
	case reflect.String:
		v.SetString(name)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(sum[0]) + 0.5)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(sum[0])<<16 + int64(sum[1])<<8 + int64(sum[2]) + 1)
	case reflect.Uint8:
		v.SetUint(uint64(sum[0])%255 + 1)
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(uint64(sum[0])<<8 + uint64(sum[1]) + 1)
	default:
		t.Fatalf("%s is a %s, which this test cannot fill", name, v.Type())
	}
}

// golden is a file of testdata: the whole value, and its fields by their numbers.
type golden struct {
	whole  []byte
	fields map[string]string
}

func readGolden(t *testing.T, path string) golden {
	g := golden{fields: map[string]string{}}
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		return g
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch number {
		case "#":
		case "whole":
			if g.whole, err = hex.DecodeString(rest); err != nil {
				t.Fatal(err)
			}
		default:
			g.fields[number] = rest
		}
	}
	return g
}

func (g golden) write(t *testing.T, path string) {
	var b strings.Builder
	fmt.Fprintf(&b, "# A filled value as it is stored, then its fields: number, name, encoding. See TestStoredFormats.\nwhole %x\n", g.whole)
	for _, number := range slices.SortedFunc(maps.Keys(g.fields), byNumbers) {
		fmt.Fprintf(&b, "%s %s\n", number, g.fields[number])
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func byNumbers(a, b string) int {
	parts := func(s string) (n []int) {
		for part := range strings.SplitSeq(strings.ReplaceAll(s, "[]", ""), ".") {
			v, _ := strconv.Atoi(part)
			n = append(n, v)
		}
		return n
	}
	return slices.Compare(parts(a), parts(b))
}

// What is stored of an enumeration is its number, which stays its own.
func TestStoredEnumerations(t *testing.T) {
	now := map[string]string{}
	enter := func(typ string, name func(uint8) fmt.Stringer) {
		for n := range uint8(255) {
			if s := name(n).String(); !strings.HasPrefix(s, "unknown(") {
				now[fmt.Sprintf("%s.%d", typ, n)] = typ + "=" + s
			}
		}
	}
	enter("Act", func(n uint8) fmt.Stringer { return handoff.Act(n) })
	enter("DestinationKind", func(n uint8) fmt.Stringer { return handoff.DestinationKind(n) })
	enter("DoorMode", func(n uint8) fmt.Stringer { return handoff.DoorMode(n) })
	enter("DoorState", func(n uint8) fmt.Stringer { return handoff.DoorState(n) })
	enter("EventType", func(n uint8) fmt.Stringer { return handoff.EventType(n) })
	enter("Proof", func(n uint8) fmt.Stringer { return handoff.Proof(n) })
	enter("Purpose", func(n uint8) fmt.Stringer { return handoff.Purpose(n) })
	enter("Result", func(n uint8) fmt.Stringer { return handoff.Result(n) })
	enter("Status", func(n uint8) fmt.Stringer { return handoff.Status(n) })
	enter("TargetKind", func(n uint8) fmt.Stringer { return handoff.TargetKind(n) })

	path := filepath.Join("testdata", "enumerations.txt")
	content, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	golden := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if number, name, is := strings.Cut(strings.TrimSpace(line), " "); is {
			golden[number] = name
		}
	}
	problems := moved(golden, now)
	for number, name := range now {
		if _, held := golden[number]; !held {
			if *update {
				golden[number] = name
				continue
			}
			problems = append(problems, fmt.Sprintf("%s, %s, is new: go test ./handoff/redisstore -run TestStoredEnumerations -update", number, name))
		}
	}
	for _, p := range problems {
		t.Error(p)
	}
	if *update && len(problems) == 0 {
		var b strings.Builder
		order := func(a, b string) int {
			x, m, _ := strings.Cut(a, ".")
			y, n, _ := strings.Cut(b, ".")
			return cmp.Or(strings.Compare(x, y), byNumbers(m, n))
		}
		for _, number := range slices.SortedFunc(maps.Keys(golden), order) {
			fmt.Fprintf(&b, "%s %s\n", number, golden[number])
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
