package handoff_test

import (
	"reflect"
	"strings"
	"testing"

	. "latchkey/handoff"
	"latchkey/handoff/handofftest"
)

// Whatever a dispatch says is in its digest: a field that is not would let another
// dispatch pass for it.
func TestEveryFieldOfADispatchIsInItsDigest(t *testing.T) {
	several := func() Dispatch {
		d := handofftest.Sample("p1")
		d.Together = &Together{Seal: "s1", More: []Piece{{Parcel: "p2", Seal: "s2"}}}
		return d
	}
	base := strings.Join(DispatchParts(several()), "\x00")
	var walk func(path string, at func(*Dispatch) reflect.Value)
	walk = func(path string, at func(*Dispatch) reflect.Value) {
		sample := several()
		switch v := at(&sample); v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(path+"."+v.Type().Field(i).Name, func(d *Dispatch) reflect.Value { return at(d).Field(i) })
				}
			}
			return
		case reflect.Pointer:
			walk(path, func(d *Dispatch) reflect.Value { return at(d).Elem() })
			return
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Slice:
			if v.Type().Elem().Kind() == reflect.Struct {
				walk(path, func(d *Dispatch) reflect.Value { return at(d).Index(0) })
				v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
				break
			}
			v.Set(reflect.Append(v, reflect.ValueOf("x")))
		case reflect.Uint8:
			v.SetUint(v.Uint() ^ 3)
		case reflect.Int, reflect.Int32:
			v.SetInt(v.Int() + 1)
		default:
			t.Fatalf("%s is a %v, which this test does not know", path, v.Kind())
		}
		if strings.Join(DispatchParts(sample), "\x00") == base {
			t.Errorf("the digest does not hold %s", path)
		}
	}
	walk("dispatch", func(d *Dispatch) reflect.Value { return reflect.ValueOf(d).Elem() })
}
