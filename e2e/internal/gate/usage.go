// This file tells what the gateway's process holds: what grows with every
// reload is a leak.
package gate

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// Usage is what the process holds at a moment.
type Usage struct{ Goroutines, Descriptors int }

var goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)

// Usage counts; the request for it is among what is counted, each time.
func (g *Gate) Usage(ctx context.Context, t testing.TB) Usage {
	t.Helper()
	profile, err := g.admin(ctx, "GET", "/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		t.Fatalf("asking for the gateway's goroutines: %v", err)
	}
	total := goroutineTotal.FindSubmatch(profile)
	if total == nil {
		t.Fatal("the profile names no number of goroutines")
	}
	n, err := strconv.Atoi(string(total[1]))
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.process.ID()))
	if err != nil {
		t.Fatal(err)
	}
	return Usage{Goroutines: n, Descriptors: len(open)}
}

var heapTotal = regexp.MustCompile(`# HeapSys = (\d+)`)

// Heap is how many bytes the process has taken for its heap so far: the most
// that it held at any moment, since it gives no addresses back.
func (g *Gate) Heap(ctx context.Context, t testing.TB) int {
	t.Helper()
	profile, err := g.admin(ctx, "GET", "/debug/pprof/heap?debug=1", nil)
	if err != nil {
		t.Fatalf("asking for the gateway's heap: %v", err)
	}
	total := heapTotal.FindSubmatch(profile)
	if total == nil {
		t.Fatal("the profile names no size of the heap")
	}
	n, err := strconv.Atoi(string(total[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Goroutines is the profile in words, for a test that finds too many.
func (g *Gate) Goroutines(ctx context.Context, t testing.TB) string {
	t.Helper()
	profile, err := g.admin(ctx, "GET", "/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		t.Fatalf("asking for the gateway's goroutines: %v", err)
	}
	return string(profile)
}
