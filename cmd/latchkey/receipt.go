package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"latchkey/handoff"
	"latchkey/handoff/door"
	"latchkey/handoff/receipt"
)

func loadReceiptKeys(path string) (*receipt.Keys, error) { return loadKeys(path, receipt.ParseKeys) }

type keysReceiptsCmd struct {
	New    keysReceiptsNewCmd    `cmd:"" help:"Make a file with a fresh key. Never overwrites one."`
	Rotate keysReceiptsRotateCmd `cmd:"" help:"Let a fresh key sign from now on; what the one before signed still verifies."`
	Forget keysReceiptsForgetCmd `cmd:"" help:"No longer publish a key that was stolen. Rotate first. Every receipt can be asked for again, and is signed by the new key."`
}

type keysReceiptsNewCmd struct {
	File string `arg:"" help:"Where to write the key (mode 0600)." type:"path"`
}

// Run makes a file of receipt keys.
func (c *keysReceiptsNewCmd) Run(io streams) error {
	if err := isNew(c.File, "receipts that its keys signed would verify no longer"); err != nil {
		return err
	}
	keys, err := receipt.NewKeys(rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKeys(c.File, keys); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: a fresh key, %s. Give the file to every instance by --receipt-keys.\n", c.File, keys.Publish()[0].ID())
	return nil
}

type keysReceiptsRotateCmd struct {
	File string `arg:"" help:"The keys to change." type:"existingfile"`
}

// Run rotates a file of receipt keys.
func (c *keysReceiptsRotateCmd) Run(io streams) error {
	keys, err := loadReceiptKeys(c.File)
	if err != nil {
		return err
	}
	was := keys.Publish()[0].ID()
	if keys, err = keys.Rotate(rand.Reader); err != nil {
		return err
	}
	if err := writeKeys(c.File, keys); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: %s signs from now on, and %s is still published. Restart the instances that use it.\n", c.File, keys.Publish()[0].ID(), was)
	return nil
}

type keysReceiptsForgetCmd struct {
	File string `arg:"" help:"The keys to change." type:"existingfile"`
	Kid  string `arg:"" help:"Id of the key (kid of GET /v1/receipts/keys)."`
}

// Run takes a key out of those that are published.
func (c *keysReceiptsForgetCmd) Run(io streams) error {
	keys, err := loadReceiptKeys(c.File)
	if err != nil {
		return err
	}
	if keys, err = keys.Forget(c.Kid); err != nil {
		return err
	}
	if err := writeKeys(c.File, keys); err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s: the key is published no longer. Restart the instances that use it.\n", c.File)
	return nil
}

type receiptCmd struct {
	Verify receiptVerifyCmd `cmd:"" help:"Verify a signed receipt, without the service, and print what it says."`
}

type receiptVerifyCmd struct {
	File string `arg:"" optional:"" default:"-" help:"The receipt: its bytes, base64url, or the JSON of GET /v1/receipts/ID. - or nothing is the standard input."`
	Keys string `required:"" placeholder:"FILE|URL" help:"The published keys: the answer of GET /v1/receipts/keys, or where it is."`
}

// mostReceipt bounds what is read of a receipt in any of its forms, and of keys.
const mostReceipt = 256 << 10

// Run verifies one receipt. A bad one is an error.
func (c *receiptVerifyCmd) Run(ctx context.Context, io streams) error {
	keys, err := receiptKeys(ctx, c.Keys)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	in, err := io.open(c.File)
	if err != nil {
		return err
	}
	defer in.Close()
	content, err := readBounded(in)
	if err != nil {
		return err
	}
	raw, err := receiptBytes(content)
	if err != nil {
		return err
	}
	r, kid, err := receipt.Verify(raw, keys)
	if err != nil {
		return fmt.Errorf("not a genuine receipt: %w", err)
	}
	tellReceipt(io.out, &r)
	fmt.Fprintf(io.out, "OK: signed by %s\n", kid)
	return nil
}

func readBounded(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, mostReceipt+1))
	if err == nil && len(content) > mostReceipt {
		err = fmt.Errorf("longer than %d bytes", mostReceipt)
	}
	return content, err
}

// receiptBytes finds the signed bytes in any of the forms in which a receipt is given out. Which
// form it is, its first byte says: 0xd2 begins a COSE_Sign1, and no text.
func receiptBytes(content []byte) ([]byte, error) {
	if len(content) > 0 && content[0] == 0xd2 {
		return content, nil
	}
	text := bytes.TrimSpace(content)
	if bytes.HasPrefix(text, []byte("{")) {
		var doc struct {
			COSE string `json:"cose"`
		}
		if err := json.Unmarshal(text, &doc); err != nil || doc.COSE == "" {
			return nil, errors.New("not a receipt: JSON without the member cose")
		}
		text = []byte(doc.COSE)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil || len(raw) == 0 {
		return nil, errors.New("not a receipt: neither its bytes, nor base64url, nor JSON")
	}
	return raw, nil
}

// receiptKeys reads published keys from a file or from a service. What a network could change
// on the way is not believed.
func receiptKeys(ctx context.Context, from string) (keys door.KeySet, err error) {
	var content []byte
	if u, bad := url.Parse(from); bad == nil && (u.Scheme == "https" || u.Scheme == "http") {
		if u.Scheme == "http" && !isLoopbackHost(u.Hostname()) {
			return nil, errors.New("plain HTTP is for loopback alone")
		}
		content, err = fetchKeys(ctx, from)
	} else {
		var f *os.File
		if f, err = os.Open(from); err == nil {
			defer f.Close()
			content, err = readBounded(f)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &keys); err != nil || len(keys) == 0 {
		return nil, errors.New("not a JWK Set of Ed25519 keys")
	}
	return keys, nil
}

func fetchKeys(ctx context.Context, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the service answered %d", resp.StatusCode)
	}
	return readBounded(resp.Body)
}

// tellReceipt prints what a receipt says. Its ids were held to their rule: none can move the cursor.
func tellReceipt(out io.Writer, r *handoff.Receipt) {
	fmt.Fprintf(out, "receipt:  %s\n", r.ID)
	fmt.Fprintf(out, "act:      %s\n", r.Purpose.Act())
	fmt.Fprintf(out, "parcels:  %s\n", strings.Join(r.Parcels, " "))
	fmt.Fprintf(out, "at:       %s\n", r.At.Time().Format(time.RFC3339))
	fmt.Fprintf(out, "shop:     %s\ncarrier:  %s\n", r.Shop, r.Carrier)
	if r.Courier == "" {
		fmt.Fprintln(out, "by hand:  two people of the shop released it, without courier and code")
	} else {
		fmt.Fprintf(out, "courier:  %s\n", r.Courier)
	}
	if r.Placed {
		fmt.Fprintf(out, "distance: %d m\n", r.Distance)
	}
	if r.CodeIssue != 0 {
		fmt.Fprintf(out, "code:     issue %d\n", r.CodeIssue)
	}
	for _, d := range r.Doors {
		fmt.Fprintf(out, "door:     %s (%s) %s %s\n", d.Door, d.Target, d.State, d.Since.Time().Format(time.RFC3339))
	}
}
