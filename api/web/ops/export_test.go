package ops

import (
	"io/fs"

	"go.yaml.in/yaml/v3"
)

// Events are the keys of the words for them.
func Events() (map[string]any, error) {
	data, err := fs.ReadFile(files, "words/en.yaml")
	if err != nil {
		return nil, err
	}
	var words struct{ Event map[string]any }
	err = yaml.Unmarshal(data, &words)
	return words.Event, err
}
