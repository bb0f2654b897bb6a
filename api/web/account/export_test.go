package account

import (
	"io/fs"

	"go.yaml.in/yaml/v3"
)

// Refusals are the keys of the words for them.
func Refusals() (map[string]any, error) {
	data, err := fs.ReadFile(files, "words/en.yaml")
	if err != nil {
		return nil, err
	}
	var words struct{ Refused map[string]any }
	err = yaml.Unmarshal(data, &words)
	return words.Refused, err
}
