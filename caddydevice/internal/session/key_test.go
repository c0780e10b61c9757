// This file holds the tests of session keys.

package session

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	format := regexp.MustCompile(`^dvc_[A-Za-z0-9_-]{43}$`)
	seen := make(map[Key]bool, 100_000)
	prefixes := map[string]bool{}
	for range 100_000 {
		k := NewKey()
		if seen[k] {
			t.Fatal("a key came twice")
		}
		seen[k] = true
		prefixes[k.Reveal()[:8]] = true
		if !format.MatchString(k.Reveal()) {
			t.Fatalf("key %q", k.Reveal())
		}
		if parsed, ok := ParseKey(k.Reveal()); !ok || parsed != k {
			t.Fatalf("key %q does not parse", k.Reveal())
		}
	}
	if len(prefixes) < 99_000 {
		t.Errorf("%d different beginnings of 100000 keys", len(prefixes))
	}
}

func TestParseKeyIsStrict(t *testing.T) {
	good := "dvc_" + strings.Repeat("A", 43)
	if _, ok := ParseKey(good); !ok {
		t.Fatal("the good key does not parse")
	}
	body := strings.Repeat("A", 42)
	for name, text := range map[string]string{
		"empty":                        "",
		"prefix only":                  "dvc_",
		"no prefix":                    good[4:],
		"upper-case prefix":            "DVC_" + good[4:],
		"prefix twice":                 "dvc_" + good,
		"one short":                    "dvc_" + body,
		"one long":                     good + "A",
		"padded":                       good + "=",
		"padding in place of the last": "dvc_" + body + "=",
		"standard alphabet +":          "dvc_" + "+" + body,
		"standard alphabet /":          "dvc_" + "/" + body,
		"last character not canonical": "dvc_" + body + "B",
		"newline at the end":           good + "\n",
		"newline in place of one":      "dvc_" + body + "\n",
		"newline within":               "dvc_" + body[:20] + "\r\n" + body[:21],
		"extra newline within":         "dvc_" + body[:20] + "\n" + body[:23],
		"space before":                 " " + good,
		"space within":                 "dvc_" + body[:20] + " " + body[:22],
		"NUL":                          "dvc_" + body + "\x00",
		"percent code":                 "dvc_" + body[:40] + "%41",
		"not ASCII":                    "dvc_" + body[:41] + "ü",
		"8 kB":                         "dvc_" + strings.Repeat("A", 8192),
	} {
		if k, ok := ParseKey(text); ok || k != (Key{}) {
			t.Errorf("%s: %q parses", name, text)
		}
	}
}

func TestKeyPrintsNothing(t *testing.T) {
	k := NewKey()
	for _, format := range []string{"%v", "%+v", "%s", "%q", "%#v", "%x"} {
		printed := fmt.Sprintf(format, k)
		if strings.Contains(printed, k.Reveal()) || strings.Contains(printed, hex.EncodeToString([]byte(k.Reveal()))) {
			t.Errorf("%s prints the key", format)
		}
	}
}

func TestID(t *testing.T) {
	k := NewKey()
	want := sha256.Sum256([]byte(k.Reveal()))
	if k.ID() != ID(want) || k.ID().String() != hex.EncodeToString(want[:]) {
		t.Error("the id is not SHA-256 of the key")
	}
	if short := k.ID().Short(); len(short) != 8 || !strings.HasPrefix(k.ID().String(), short) {
		t.Errorf("short id %q", short)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("dvc_" + strings.Repeat("A", 43))
	f.Add("dvc_" + strings.Repeat("A", 42) + "B")
	f.Add("dvc_\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		k, ok := ParseKey(text)
		if !ok {
			return
		}
		if k.Reveal() != text || len(text) != 47 || strings.ContainsAny(text, "\r\n=+/ ") {
			t.Errorf("%q parses", text)
		}
	})
}
