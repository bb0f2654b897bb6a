package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"latchkey/handoff"
	"latchkey/handoff/counts"
)

// numbersKept is how long the figures of a day are kept after the last was noted.
const numbersKept = 40 * 24 * time.Hour

// figureScript adds figures to the hashes of their days, if the place stands where it was read.
//
//	KEYS[1] place   KEYS[2...] days
//	ARGV[1] from, or - for figures of no event   ARGV[2] to   ARGV[3] kept, s
//	ARGV[4...] for each figure: which day's key (2 is the first), field, n
//
// A field that begins with ^ keeps its greatest. It returns 1, or 0 if the place was
// another. Run twice it changes nothing, but for figures of no event.
var figureScript = newScript(`
if ARGV[1] ~= '-' then
  if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2])
end
for i = 4, #ARGV, 3 do
  local key, field, n = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  if string.sub(field, 1, 1) == '^' then
    if tonumber(redis.call('HGET', key, field) or '0') < tonumber(n) then redis.call('HSET', key, field, n) end
  else
    redis.call('HINCRBY', key, field, n)
  end
end
for i = 2, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return 1
`)

func dayOf(hour handoff.Instant) string { return hour.Time().UTC().Format(time.DateOnly) }

// CountedTo implements counts.Numbers.
func (s *Store) CountedTo(ctx context.Context, partition int) (string, error) {
	return read(ctx, s, redis.NewStringCmd, "get", countedKey(partition))
}

// CountEvents implements counts.Numbers. After a lost answer it reports false, as if another
// instance had counted; the next call of CountedTo tells the place.
func (s *Store) CountEvents(ctx context.Context, partition int, from, to string, figures []counts.Figure) (bool, error) {
	keys, args := figureArgs(partition, from, to, figures)
	return s.writeIf(ctx, figureScript, keys, args...)
}

// AddFigures implements counts.Numbers.
func (s *Store) AddFigures(ctx context.Context, figures []counts.Figure) error {
	if len(figures) == 0 {
		return nil
	}
	keys, args := figureArgs(0, "-", "", figures)
	_, err := s.writeIf(ctx, figureScript, keys, args...)
	return err
}

func figureArgs(partition int, from, to string, figures []counts.Figure) ([]string, []any) {
	keys, args := []string{countedKey(partition)}, []any{from, to, int64(numbersKept / time.Second)}
	days := map[string]int{}
	for _, f := range figures {
		day := dayOf(f.Hour)
		if days[day] == 0 {
			keys = append(keys, numbersKey(partition, day))
			days[day] = len(keys)
		}
		field := f.Hour.Time().UTC().Format("15") + " " + f.Name
		if f.Peak {
			field = "^" + field
		}
		args = append(args, days[day], field, f.N)
	}
	return keys, args
}

// Figures implements counts.Numbers.
func (s *Store) Figures(ctx context.Context, from, until time.Time) ([]counts.Figure, error) {
	first, last := counts.FigureHour(from), handoff.InstantOf(until)
	var days []string
	for day := from.UTC().Truncate(24 * time.Hour); day.Before(until) && len(days) < 3; day = day.Add(24 * time.Hour) {
		days = append(days, day.Format(time.DateOnly))
	}
	var lines []line
	for _, day := range days {
		for partition := range handoff.Partitions {
			lines = append(lines, line{"hgetall", numbersKey(partition, day)})
		}
	}
	hashes, err := readEach(ctx, s, redis.NewMapStringStringCmd, lines...)
	if err != nil {
		return nil, err
	}
	sums := map[counts.Figure]int64{}
	for i, hash := range hashes {
		for field, text := range hash {
			f, ok := figureOf(days[i/handoff.Partitions], field)
			n, err := strconv.ParseInt(text, 10, 64)
			if !ok || err != nil || f.Hour < first || f.Hour >= last {
				continue
			}
			if f.Peak {
				sums[f] = max(sums[f], n)
			} else {
				sums[f] += n
			}
		}
	}
	figures := make([]counts.Figure, 0, len(sums))
	for f, n := range sums {
		f.N = n
		figures = append(figures, f)
	}
	return figures, nil
}

func figureOf(day, field string) (f counts.Figure, ok bool) {
	field, f.Peak = strings.CutPrefix(field, "^")
	hour, name, _ := strings.Cut(field, " ")
	at, err := time.Parse(time.DateOnly+" 15", day+" "+hour)
	f.Hour, f.Name = handoff.InstantOf(at), name
	return f, err == nil
}
