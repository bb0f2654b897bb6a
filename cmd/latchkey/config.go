package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"latchkey/handoff/keyring"
)

// configFile is a JSON object of flags, by their names with _ for -. One file may serve all
// commands. It is held to what there is: a name that no command has is refused, and so is a
// file that holds a secret and that others may read. Every error names the file.
type configFile string

// BeforeResolve is how kong has a flag bring in further values.
func (c configFile) BeforeResolve(k *kong.Kong, ctx *kong.Context, trace *kong.Path) error {
	path, _ := ctx.FlagValue(trace.Flag).(configFile)
	r, err := readConfig(kong.ExpandPath(string(path)), k.Model)
	if err != nil {
		return err
	}
	ctx.AddResolver(r)
	return nil
}

// config is a file's values, by the names of flags.
type config struct {
	path   string
	values map[string]any
}

func readConfig(path string, app *kong.Application) (*config, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var values map[string]any
	switch err := json.Unmarshal(content, &values); {
	case err != nil:
		var syntactic *jsontext.SyntacticError
		if errors.As(err, &syntactic) && errors.Is(syntactic.Err, jsontext.ErrDuplicateName) {
			return nil, fmt.Errorf("%s: %s is given twice", path, syntactic.JSONPointer)
		}
		line := 1
		if errors.As(err, &syntactic) {
			line += bytes.Count(content[:min(int(syntactic.ByteOffset), len(content))], []byte("\n"))
		}
		return nil, fmt.Errorf("%s: must be one JSON object of flags; see line %d", path, line) // the library's error may repeat what it read
	case values == nil:
		return nil, fmt.Errorf("%s: must be a JSON object of flags", path)
	}
	known := map[string]*kong.Flag{}
	var add func(*kong.Node)
	add = func(n *kong.Node) {
		for _, f := range n.Flags {
			known[strings.ReplaceAll(f.Name, "-", "_")] = f
		}
		for _, child := range n.Children {
			add(child)
		}
	}
	add(app.Node)
	r := &config{path, map[string]any{}}
	for _, name := range sortedNames(values) {
		f := known[name]
		switch {
		case f == nil:
			return nil, fmt.Errorf("%s: %s is not a known name%s", path, name, spelt(name, known))
		case values[name] == nil:
			return nil, fmt.Errorf("%s: %s is null: leave it out", path, name)
		case secret(name, values[name]):
			if _, err := keyring.ReadSecret(path); err != nil {
				return nil, fmt.Errorf("%s holds a secret: %w", name, err)
			}
		}
		r.values[f.Name] = values[name]
	}
	return r, nil
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// spelt is the known name that is spelt alike, with words to say so; empty if there is none.
func spelt(name string, known map[string]*kong.Flag) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "").Replace(s))
	}
	for _, k := range sortedNames(known) {
		if plain(k) == plain(name) {
			return ": write " + k
		}
	}
	return ""
}

// secret reports whether a value is one that only the service may read: a token, or a URL with a
// password in it.
func secret(name string, value any) bool {
	text, ok := value.(string)
	if !ok {
		return false
	}
	if name == "token" {
		return true
	}
	u, err := url.Parse(text)
	if err != nil {
		return strings.Contains(text, "@") // no URL that can be read, and perhaps meant as one
	}
	if _, given := u.User.Password(); given {
		return true
	}
	for parameter := range u.Query() {
		if strings.Contains(parameter, "password") {
			return true
		}
	}
	return false
}

// Validate implements kong.Resolver. The names were looked at when the file was read.
func (*config) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (c *config) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, given := c.values[flag.Name]
	if !given {
		return nil, nil
	}
	// Tried here, where it is known which file it comes from.
	if err := flag.Value.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(value, kong.FlagValueToken)}, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	if flag.Enum != "" && !flag.EnumMap()[fmt.Sprint(value)] {
		return nil, fmt.Errorf("%s: must be one of %s", c.path, flag.Enum)
	}
	return value, nil
}

// fromEnv is how kong says that a value came from the environment. It repeats the value,
// which may be a secret.
var fromEnv = regexp.MustCompile(`(?s) \(from envar ([A-Za-z0-9_]+)=".*"\)`)

// discreet is an error of the command line without the value of a variable.
func discreet(err error) string { return fromEnv.ReplaceAllString(err.Error(), " (from $1)") }
