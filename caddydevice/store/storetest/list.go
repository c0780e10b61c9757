// This file holds the tests of listing records, page by page.

package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// wantPage checks a page's ids and returns its records.
func (s suite) wantPage(after string, limit int, want ...string) []store.Record {
	s.Helper()
	page, err := s.List(context.Background(), after, limit)
	if err != nil {
		s.Fatalf("list after %q: %v", after, err)
	}
	got := make([]string, 0, len(page))
	for _, rec := range page {
		got = append(got, rec.ID)
	}
	if !slices.Equal(got, want) {
		s.Errorf("%d after %q are %q, want %q", limit, after, got, want)
	}
	return page
}

func lists(s suite) {
	s.wantPage("", 10)
	// in the order of their bytes, which no alphabet and no length has
	for _, id := range []string{"b", "a", "\xff", "ab", "B", "ü", "a\x00"} {
		s.put(s.record(id, store.NewIndex("sub", "u")))
	}
	s.mark("c", s.life) // a mark is no record
	s.wantPage("", 10, "B", "a", "a\x00", "ab", "b", "ü", "\xff")
	s.wantPage("", 7, "B", "a", "a\x00", "ab", "b", "ü", "\xff")
	s.wantPage("", 2, "B", "a")
	s.wantPage("a", 3, "a\x00", "ab", "b")
	s.wantPage("aa", 1, "ab") // after what was never there
	s.wantPage("ü", 2, "\xff")
	s.wantPage("\xff", 2)
	s.wantPage("\xff\xff", 2)

	got, want := s.wantPage("a", 1, "a\x00")[0], s.get("a\x00")
	if got.Body != nil || want.Body == nil {
		s.Errorf("the body is listed as %q; it is %q", got.Body, want.Body)
	}
	if got.Kind != want.Kind || got.Site != want.Site || got.Provider != want.Provider || !got.Created.Equal(want.Created) ||
		got.Version != want.Version || got.State != want.State || got.Reason != want.Reason || !got.Changed.Equal(want.Changed) ||
		!got.Until.Equal(want.Until) || got.Subject != want.Subject || !slices.Equal(got.Indexes, want.Indexes) {
		s.Errorf("listed %+v, want %+v", got, want)
	}
	got.Indexes[0] = "x"
	if again := s.wantPage("a", 1, "a\x00")[0]; again.Indexes[0] == "x" {
		s.Error("the store gave out what it keeps")
	}

	for _, limit := range []int{0, -1} {
		if page, err := s.List(context.Background(), "", limit); err == nil || len(page) > 0 {
			s.Errorf("limit %d: %v, %v", limit, page, err)
		}
	}
}

// listsLiving: what is over takes no place in a page, so that none looks like
// the last one.
func listsLiving(s suite) {
	for i := range 6 {
		rec := s.record(fmt.Sprint(i))
		if i%2 == 0 {
			rec.Until = time.Now().Add(s.life)
		}
		s.put(rec)
	}
	s.wantPage("", 3, "0", "1", "2")
	time.Sleep(s.life * 3 / 2)
	s.wantPage("", 3, "1", "3", "5")
	s.wantPage("0", 2, "1", "3")
	if err := s.Delete(context.Background(), "3"); err != nil {
		s.Fatal(err)
	}
	s.wantPage("", 3, "1", "5")
}

// listsMeanwhile: what is there all the time is listed once, and what comes or
// goes before the place that was reached moves nothing.
func listsMeanwhile(s suite) {
	for _, id := range []string{"b", "d", "f", "h"} {
		s.put(s.record(id))
	}
	s.wantPage("", 2, "b", "d")
	s.put(s.record("a"))
	s.put(s.record("e"))
	next := s.record("b")
	next.Version = 2
	s.put(next)
	for _, id := range []string{"d", "h"} { // the place that was reached is gone
		if err := s.Delete(context.Background(), id); err != nil {
			s.Fatal(err)
		}
	}
	s.wantPage("d", 2, "e", "f")
	s.wantPage("f", 2)
	if page := s.wantPage("", 2, "a", "b"); len(page) == 2 && page[1].Version != 2 {
		s.Errorf("b is listed at version %d, want 2", page[1].Version)
	}
}
