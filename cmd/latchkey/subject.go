package main

import (
	"fmt"

	"latchkey/api/auth"
	"latchkey/handoff/keyring"
)

// subjectCmd tells the id of a subject of an issuer, which a shop or a carrier must know to
// send parcels to it.
type subjectCmd struct {
	Keyset  string `required:"" env:"LATCHKEY_KEYSET" placeholder:"FILE" type:"path" help:"The service's keys (${env})."`
	Issuer  string `required:"" placeholder:"URL" help:"The issuer, as the file of issuers has it."`
	Subject string `arg:"" help:"What its tokens say in sub, or in the claim that claims.subject names."`
}

// Run prints the id.
func (c *subjectCmd) Run(io streams) error {
	ring, err := keyring.Load(c.Keyset)
	if err != nil {
		return err
	}
	fmt.Fprintln(io.out, auth.SubjectID(ring, c.Issuer, c.Subject))
	return nil
}
