package auth

// What the tests reach into, beside the exported names: they import authtest, which
// imports this package, and so cannot be part of it.
const (
	MaxToken      = maxToken
	MaxFetched    = maxFetched
	MaxKeys       = maxKeys
	MaxName       = maxName
	Leeway        = leeway
	TokenKept     = tokenKept
	MetadataAgain = metadataAgain
	SessionLen    = sessionLen

	LongestTokenLife = longestTokenLife
)

var (
	Base32Lower  = base32Lower
	SessionValue = sessionValue
	CheckTrust   = checkTrust
	Greeting     = greeting
)

// SwapKeys gives an issuer's entries the keys that another Issuers has for the issuer.
func (v *Issuers) SwapKeys(issuer string, from *Issuers) {
	for _, e := range v.trusted.Load().issuers[issuer] {
		e.source = &keySource{set: from.trusted.Load().issuers[issuer][0].source.set}
	}
}

// Forget empties the memory of verified tokens.
func (v *Issuers) Forget() { v.trusted.Load().cache = cache[[32]byte, *Principal]{} }
