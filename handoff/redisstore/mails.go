package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/service"
	"latchkey/handoff/storage"
)

// awaitedName is a mail among those that are waited for.
func awaitedName(m service.AwaitedMail) string {
	return m.Grant.String() + "/" + strconv.FormatUint(m.Issue, 10)
}

func parseAwaited(name string) (service.AwaitedMail, error) {
	grant, issue, _ := strings.Cut(name, "/")
	id, err := handoff.ParseGrantID(grant)
	n, bad := strconv.ParseUint(issue, 10, 64)
	if err = errors.Join(err, bad); err != nil {
		return service.AwaitedMail{}, fmt.Errorf("%w: mails: not a grant and a code: %w", storage.ErrFormat, err)
	}
	return service.AwaitedMail{Grant: id, Issue: n}, nil
}

// mailedField is a grant among the mails of a day: 12 bytes, and its generation.
func mailedField(id handoff.GrantID) string {
	return string(binary.AppendUvarint(id.Hash.Bytes(), uint64(id.Generation)))
}

// formatMailed and parseMailed are a note of a mail that went well: "ISSUE STATE TIME", behind the
// format. Issues are compared as numbers by noteMailScript.
func formatMailed(w handoff.MailWord) string {
	return fmt.Sprintf("%s%d %d %x", plainFormat, w.Issue, w.State, int64(w.At))
}

func parseMailed(text string) (w handoff.MailWord, err error) {
	if text == "" {
		return w, nil
	}
	const kind = "mailed"
	said, err := plain(kind, text)
	if err != nil {
		return w, err
	}
	issue, rest, _ := strings.Cut(said, " ")
	state, at, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(issue, 10, 64)
	s, bad := strconv.ParseUint(state, 10, 8)
	t, worse := strconv.ParseInt(at, 16, 64)
	if err := errors.Join(err, bad, worse); err != nil {
		return w, fmt.Errorf("%w: %s: not a code, a state and a time", storage.ErrFormat, kind)
	}
	return handoff.MailWord{Issue: n, State: handoff.MailState(s), At: handoff.Instant(t)}, nil
}

// noteMailScript notes a mail, unless a newer code's or a better note stands there, and ends the wait
// for it.
//
//	KEYS[1] mailed   KEYS[2] mails
//	ARGV[1] the field   ARGV[2] its new value   ARGV[3] the issue   ARGV[4] the state
//	ARGV[5] seconds to keep it   ARGV[6] the mail's name
//
// It returns 1 if it was waited for the mail, else 0.
var noteMailScript = newScript(`
local issue, state = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^1 (%d+) (%d+) ')
issue, state = tonumber(issue or 0), tonumber(state or 0)
local said = tonumber(ARGV[3])
if issue < said or issue == said and state <= tonumber(ARGV[4]) then
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
	redis.call('EXPIRE', KEYS[1], ARGV[5])
end
return redis.call('ZREM', KEYS[2], ARGV[6])
`)

// NoteMail implements service.Mails.
func (s *Store) NoteMail(ctx context.Context, n service.MailNote) (awaited bool, err error) {
	if err := s.refuses(n.Grant.Hash); err != nil {
		return false, err
	}
	w := n.Word
	return s.writeIf(ctx, noteMailScript, []string{mailedKey(n.MailRef), mailsKey(n.Grant.Hash.Partition())},
		mailedField(n.Grant), formatMailed(w), w.Issue, int(w.State), s.keepFor(n.Until, w.At), awaitedName(service.AwaitedMail{Grant: n.Grant, Issue: w.Issue}))
}

// MailNotes implements service.Mails.
func (s *Store) MailNotes(ctx context.Context, of []service.MailRef) ([]handoff.MailWord, error) {
	notes := make([]handoff.MailWord, 0, len(of))
	for chunk := range slices.Chunk(of, manyAtOnce) {
		var lines []line
		for _, ref := range chunk {
			lines = append(lines, line{"hget", mailedKey(ref), mailedField(ref.Grant)})
		}
		values, err := readEach(ctx, s, redis.NewStringCmd, lines...)
		if err != nil {
			return nil, err
		}
		for _, text := range values {
			w, err := parseMailed(text)
			if err != nil {
				return nil, err
			}
			notes = append(notes, w)
		}
	}
	return notes, nil
}

// LateMails implements service.Mails.
func (s *Store) LateMails(ctx context.Context, partition int, now handoff.Instant, limit int) ([]service.AwaitedMail, error) {
	if s.refused(partition) {
		return nil, nil
	}
	members, err := read(ctx, s, redis.NewZSliceCmd, "zrange", mailsKey(partition), "-inf", int64(now), "byscore", "limit", 0, limit, "withscores")
	if err != nil {
		return nil, err
	}
	late := make([]service.AwaitedMail, 0, len(members))
	for _, z := range members {
		name, _ := z.Member.(string)
		m, err := parseAwaited(name)
		if err != nil {
			return nil, err
		}
		m.By = handoff.Instant(z.Score)
		late = append(late, m)
	}
	return late, nil
}

// DropMail implements service.Mails.
func (s *Store) DropMail(ctx context.Context, m service.AwaitedMail) error {
	return s.write(ctx, line{"zrem", mailsKey(m.Grant.Hash.Partition()), awaitedName(m)})
}
