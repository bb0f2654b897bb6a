package auth

import (
	"errors"

	"github.com/golang-jwt/jwt/v5"
)

// Why is why a token, a key or a session was refused: one of a few words, for the service's
// own log. The caller is never told, since each of them tells a guesser what to change.
type Why string

// The reasons.
const (
	WhyNone        Why = "no-credentials"
	WhyMalformed   Why = "malformed"        // no bearer token, or none that can be read
	WhyIssuer      Why = "unknown-issuer"   // iss is in no entry of the file of issuers
	WhyAudience    Why = "wrong-audience"   // aud names none, or several, of the issuer's entries
	WhySigningKey  Why = "unknown-key-id"   // the issuer has no such key, or none was named where it has several
	WhyKeysAway    Why = "issuer-keys-away" // the issuer's keys were never fetched
	WhySignature   Why = "bad-signature"    // or a method that is not accepted
	WhyExpired     Why = "expired"
	WhyNotYet      Why = "not-yet-valid"   // nbf or iat lies ahead
	WhyTooOld      Why = "too-old"         // iat is longer ago than the entry's token_life
	WhyClaims      Why = "missing-claims"  // exp or iat
	WhyTenant      Why = "foreign-tenant"  // for a carrier, shop or building that the issuer may not speak for
	WhySeveral     Why = "several-tenants" // the claim of a tenant lists more than one
	WhyUnusable    Why = "unusable-claims"
	WhySubject     Why = "unusable-subject" // missing where its own claim is named, no text, too long, or with control characters
	WhyKey         Why = "key-not-found"    // made up, of another keyset, or revoked
	WhyKeySecret   Why = "key-wrong-secret"
	WhyKeyExpired  Why = "key-expired"
	WhyKeyNetwork  Why = "key-outside-network"
	WhyKeyOpen     Why = "key-without-network" // an ops key that is bound to none
	WhySession     Why = "session-not-found"   // ended, or never begun
	WhySessionOver Why = "session-over"
	WhySessionMay  Why = "session-not-trusted" // the file of issuers no longer says what it rests on
	WhySessionLink Why = "session-link-over"   // the key that made its link is gone or over, or its issuer may not speak for the shop
)

// Guessed reports whether the credentials may have been tried out: they were never good, as far
// as can be told. What was signed or issued, and is over or does not reach that far, was not.
func (w Why) Guessed() bool {
	switch w {
	case WhyMalformed, WhyIssuer, WhyAudience, WhySigningKey, WhySignature, WhyKey, WhyKeySecret, WhySession:
		return true
	}
	return false
}

// Refusal is an ErrToken that knows why. Its text says so: it is for logs alone.
type Refusal struct {
	Why Why
	Key string // the id of the key that was shown, where the keyset made it; no secret
}

func (r *Refusal) Error() string { return ErrToken.Error() + ": " + string(r.Why) }

// Is makes it an ErrToken.
func (r *Refusal) Is(target error) bool { return target == ErrToken }

func refuse(why Why) error { return &Refusal{Why: why} }

// whyOf reads what the JWT library found. The signature is judged before the claims, so
// that no one learns from the log's reader what a forged token would have needed.
func whyOf(err error) error {
	var known *Refusal
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse(WhyMalformed)
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refuse(WhySignature)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return refuse(WhyClaims)
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(WhyExpired)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refuse(WhyNotYet)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return refuse(WhyAudience)
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return refuse(WhyIssuer)
	}
	return refuse(WhyUnusable)
}
