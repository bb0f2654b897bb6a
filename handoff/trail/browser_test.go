package trail_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The lines that docs/audit.md gives for a browser's console, run as they stand: they
// accept what holds, and nothing that was changed.
func TestByHandInABrowser(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node to run the lines of docs/audit.md")
	}
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), "By hand, in a browser's console")
	script, _, ended := strings.Cut(after, "\n## ")
	if !found || !ended {
		t.Fatal("docs/audit.md has no such lines")
	}
	_, script, _ = strings.Cut(script, "\n\n")

	s := signer(t, "a")
	run := func(text string) error {
		key, _ := json.Marshal(s.Key().String())
		quoted, _ := json.Marshal(text)
		program := "(async () => { const key = " + string(key) + ", text = " + string(quoted) + "\n" + script +
			"\n})().catch(e => { console.error(e); process.exit(1) })"
		cmd := exec.CommandContext(t.Context(), node, "-e", program)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	}
	for _, cut := range []int{0, 2} {
		lines := export(t, s, house, cut, 4)
		whole := strings.Join(lines, "")
		if err := run(whole); err != nil {
			t.Errorf("what holds is refused: %v", err)
		}
		for what, text := range map[string]string{
			"changed":   strings.Replace(whole, "door_opened", "door_failed", 1),
			"dropped":   strings.Join(append([]string{lines[0]}, lines[2:]...), ""),
			"cut short": strings.Join(lines[:len(lines)-1], ""),
			"unsigned":  strings.Replace(whole, lines[0], export(t, signer(t, "b"), house, cut, 4)[0], 1),
		} {
			if run(text) == nil {
				t.Errorf("%s: accepted", what)
			}
		}
	}
}
