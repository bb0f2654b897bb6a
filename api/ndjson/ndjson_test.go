package ndjson

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// read is a file as its numbered lines.
func read(in io.Reader) (lines []string, err error) {
	for r := NewReader(in); ; {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return append(lines, fmt.Sprint(l.Number, " failed")), err
		}
		text := string(l.Data)
		if l.TooLong {
			text = "too long"
		}
		lines = append(lines, fmt.Sprint(l.Number, " ", text))
	}
}

// endsOnce is a connection: behind the end of a body it waits, and then fails.
type endsOnce struct {
	in    io.Reader
	ended bool
}

func (e *endsOnce) Read(p []byte) (int, error) {
	if e.ended {
		return 0, errors.New("read behind the end")
	}
	n, err := e.in.Read(p)
	e.ended = errors.Is(err, io.EOF)
	return n, err
}

func TestLines(t *testing.T) {
	const bom = "\ufeff"
	long := strings.Repeat("x", MaxLine)
	for file, want := range map[string][]string{
		"":                                     nil,
		"\n":                                   nil,
		" \t\r\n\r\r":                          nil,
		bom:                                    nil,
		bom + "\n" + bom:                       nil,
		"{}":                                   {"1 {}"},
		"{}\n":                                 {"1 {}"},
		"{}\n[]":                               {"1 {}", "2 []"},
		"{}\r\n[]\r\n":                         {"1 {}", "2 []"},
		"{}\r[]\r":                             {"1 {}", "2 []"},
		"{}\n\r[]":                             {"1 {}", "3 []"},
		"{}\r\r\n\n[]":                         {"1 {}", "4 []"},
		"\n \n {} \n\n":                        {"3 {}"},
		bom + "{}\n[]":                         {"1 {}", "2 []"},
		bom + bom + " {}\r\n":                  {"1 {}"},
		"{}\n" + bom + "[]\n":                  {"1 {}", "2 []"}, // two files with ends, joined
		"{}" + bom + "[]\n":                    {"1 {}", "2 []"}, // the first without its end
		"{} " + bom + bom + " []":              {"1 {}", "2 []"},
		"{}" + bom + "\n[]":                    {"1 {}", "3 []"},
		"{}" + bom:                             {"1 {}"},
		`{"a":"` + bom + `"}`:                  {`1 {"a":"` + bom + `"}`}, // in a string it is a character
		`{"a\"":"}` + bom + `{"}`:              {`1 {"a\"":"}` + bom + `{"}`},
		`{"a\\"}` + bom + `{"b":1}`:            {`1 {"a\\"}`, `2 {"b":1}`},
		long + "\n1":                           {"1 " + long, "2 1"},
		long + "\r\n1":                         {"1 " + long, "2 1"},
		long + "x\n1":                          {"1 too long", "2 1"},
		long + long + "x\r\n\n1":               {"1 too long", "3 1"},
		strings.Repeat(" ", MaxLine+1) + "\n1": {"1 too long", "2 1"},
	} {
		for name, in := range map[string]io.Reader{
			"whole": strings.NewReader(file), "byte by byte": iotest.OneByteReader(strings.NewReader(file)), "end with data": iotest.DataErrReader(strings.NewReader(file)),
			"ends once": &endsOnce{in: strings.NewReader(file)},
		} {
			if got, err := read(in); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %.60q: %.200q %v, want %.200q", name, file, got, err, want)
			}
		}
	}
	broken := errors.New("broken")
	got, err := read(io.MultiReader(strings.NewReader("{}\n\n["), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || !slices.Equal(got, []string{"1 {}", "3 failed"}) {
		t.Errorf("%q %v", got, err)
	}
}

// A line is told as soon as it has ended, also where CR alone ends it.
func TestALineIsNotKeptWaiting(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	go out.Write([]byte("{}\r")) //nolint:errcheck // the reader stops
	if l, err := NewReader(in).Next(); err != nil || string(l.Data) != "{}" {
		t.Errorf("%q %v", l.Data, err)
	}
}
