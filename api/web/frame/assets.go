package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"

	"latchkey/api/headers"
)

const assetsPath = "/assets/"

// assets are the styles, modules and pictures of all sets. One hash over all of them is
// part of each path, so that a browser may keep them for good and modules can import one
// another by relative paths.
type assets struct {
	hash    string
	content map[string][]byte // by SET/NAME
	packed  map[string][]byte // the same in gzip, where that is smaller
}

var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
	".webmanifest": "application/manifest+json", ".wasm": "application/wasm", ".txt": "text/plain; charset=utf-8",
}

// gather reads the assets of the sets, in a fixed order.
func gather(sets []Set) (*assets, error) {
	a := &assets{content: map[string][]byte{}, packed: map[string][]byte{}}
	sum := sha256.New()
	for _, set := range sets {
		if _, err := fs.Stat(set.Files, "assets"); err != nil {
			continue
		}
		err := fs.WalkDir(set.Files, "assets", func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if assetTypes[path.Ext(file)] == "" {
				return fmt.Errorf("frame: what is %s of %s?", file, set.Name)
			}
			content, err := fs.ReadFile(set.Files, file)
			if err != nil {
				return err
			}
			name := set.Name + strings.TrimPrefix(file, "assets")
			if _, twice := a.content[name]; twice {
				return fmt.Errorf("frame: two assets %s", name)
			}
			a.content[name], a.packed[name] = content, pack(content)
			one := sha256.Sum256(content)
			fmt.Fprintf(sum, "%s %x\n", name, one)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	a.hash = hex.EncodeToString(sum.Sum(nil)[:8])
	return a, nil
}

// path is where an asset is. It panics for one that there is not: a template's slip.
func (a *assets) path(name string) string {
	if _, there := a.content[name]; !there {
		panic("frame: no asset " + name)
	}
	return assetsPath + a.hash + "/" + name
}

// ServeHTTP serves an asset. Under another hash, a page of before or after a new version
// asks: it gets what there is now, and keeps it for no time.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	headers.Set(h)
	content, there := a.content[r.PathValue("name")]
	if !there {
		http.Error(w, http.StatusText(http.StatusNotFound), http.StatusNotFound)
		return
	}
	h.Set("Content-Type", assetTypes[path.Ext(r.PathValue("name"))])
	if r.PathValue("hash") == a.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	// Assets are the same for every visitor and hold no secret, so that compressing them tells
	// nothing (BREACH). Of pages see Visit.Shared.
	h.Set("Vary", "Accept-Encoding")
	if packed := a.packed[r.PathValue("name")]; packed != nil && headers.AcceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		content = packed
	}
	_, _ = w.Write(content) // the client has gone
}

// pack is content in gzip; nil where that saves nothing worth while.
func pack(content []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = z.Write(content)                               // a buffer takes everything
	_ = z.Close()
	if b.Len() > len(content)*9/10 {
		return nil
	}
	return b.Bytes()
}
