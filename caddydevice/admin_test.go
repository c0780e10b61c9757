// This file tests what Caddy's admin endpoint shows of sessions, and to whom.

package caddydevice

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// TestAdminShows every session of the store once, by whichever gate it came,
// and of each what an operator needs.
func TestAdminShows(t *testing.T) {
	a, one, two := startAdmin(t), newGate(t, nil), newGate(t, nil)
	waiting, alice, kiosk, over := one.begun(curlHeaders), one.terminal(), two.kiosk(), two.terminal()
	two.end(over, session.Ended, session.SignedOut)
	orphan := strings.Repeat("0", 64)
	putOrphan(t, sharedStore(t), orphan)
	names := map[string]string{idOf(t, waiting): "waiting", idOf(t, alice): "alice", idOf(t, kiosk): "kiosk", idOf(t, over): "over", orphan: "orphan"}

	shown := map[string]shownSession{}
	for _, s := range a.page("").Sessions {
		name, ok := names[s.ID]
		if !ok {
			name = string(s.State) // what the claim has left
		}
		if _, twice := shown[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		shown[name] = s
	}
	for name, want := range map[string]shownSession{
		"waiting":    {State: "pending", Kind: "terminal", Site: "api.example.com", Issuer: one.Issuer, ClientID: one.ClientID},
		"alice":      {State: "active", Kind: "terminal", Site: "api.example.com", Issuer: one.Issuer, ClientID: one.ClientID, Subject: "sub-alice"},
		"kiosk":      {State: "active", Kind: "browser", Site: "api.example.com", Issuer: two.Issuer, ClientID: two.ClientID, Subject: "sub-alice"},
		"superseded": {State: "superseded", Reason: "claimed", Kind: "browser", Site: "api.example.com", Issuer: two.Issuer, ClientID: two.ClientID},
		"over":       {State: "ended", Reason: "signed_out", Kind: "terminal", Site: "api.example.com", Issuer: two.Issuer, ClientID: two.ClientID},
		"orphan":     {State: "active", Kind: "terminal", Site: "old.example.com", Issuer: "https://gone.example.com", ClientID: "old client", Subject: "<b>zoë</b>"},
	} {
		got, ok := shown[name]
		if !ok {
			t.Errorf("%s is not shown", name)
		}
		if got.Until.IsZero() != want.State.Over() || got.Created.IsZero() || got.Changed.IsZero() {
			t.Errorf("%s: created %v, changed %v, until %v", name, got.Created, got.Changed, got.Until)
		}
		want.ID, want.Created, want.Changed, want.Until = got.ID, got.Created, got.Changed, got.Until
		if name == "superseded" {
			want.Subject = got.Subject // there until the new key is in use
		}
		if got != want {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	if len(shown) != 6 {
		t.Errorf("%d are shown, want 6", len(shown))
	}
	// as the session itself has it; what is written of its use may be a little old
	idle := 12 * time.Hour
	for name, want := range map[string][2]time.Time{
		"waiting": {one.session(waiting).Deadline(), one.session(waiting).Deadline()},
		"alice":   {time.Now().Add(idle), time.Now().Add(idle + idle/10 + 2*time.Minute)},
		"kiosk":   {time.Now().Add(idle), time.Now().Add(idle + idle/10 + 2*time.Minute)},
	} {
		if got := shown[name].Until; got.Before(want[0].Add(-time.Minute)) || got.After(want[1]) {
			t.Errorf("%s is shown until %v, want between %v and %v", name, got, want[0], want[1])
		}
	}

	for query, want := range map[string][]string{
		"?state=active":                    {"alice", "kiosk", "orphan"},
		"?state=pending":                   {"waiting"},
		"?state=denied":                    {},
		"?subject=sub-alice&state=active":  {"alice", "kiosk"},
		"?subject=sub":                     {},
		"?subject=%3Cb%3Ezo%C3%AB%3C/b%3E": {"orphan"},
		"?provider=" + one.Issuer:          {"alice", "waiting"},
		"?state=active&provider=" + two.Issuer + "+" + two.ClientID: {"kiosk"},
		"?provider=" + one.Issuer + "+other":                        {},
		"?provider=https://gone.example.com+old":                    {},
		"?provider=https://gone.example.com+old+client":             {"orphan"},
		"?provider=https://gone.example.com":                        {"orphan"},
		"?provider=https://gone.example.co":                         {},
	} {
		got := []string{}
		for _, s := range a.page(query).Sessions {
			got = append(got, names[s.ID])
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

// TestAdminShowsNoSecret: nothing that is shown can be used, and a page that
// takes it for HTML finds no markup.
func TestAdminShowsNoSecret(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	keys := []string{g.begun(curlHeaders), g.terminal(), g.begun(browserHeaders), g.kiosk()}
	putOrphan(t, sharedStore(t), strings.Repeat("0", 64))
	resp, body := a.do(http.MethodGet, adminPath, nil)
	for _, secret := range append(keys, "dvc_", "canary", "WDJB", "preferred_username", "staff", "sealed", "<b>") {
		if strings.Contains(body, secret) {
			t.Errorf("%q is in %s", secret, body)
		}
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, s := range a.page("").Sessions {
		for _, header := range []map[string]string{bearer(s.ID), bearer("dvc_" + s.ID), bearer("dvc_" + s.ID[:43]), g.cookieOf(browserHeaders, s.ID), g.cookieOf(curlHeaders, "dvc_"+s.ID[:43])} {
			if resp := g.do(request{target: "/", header: header}); resp.StatusCode == http.StatusOK || g.upstream != nil {
				t.Errorf("%v: %d", header, resp.StatusCode)
			}
		}
	}
}

// TestAdminPages: each session is on one page, and the last page says that it is
// the last one.
func TestAdminPages(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	for i := range 1020 {
		putOrphan(t, sharedStore(t), fmt.Sprintf("%064x", i))
	}
	g.terminal()
	for limit, want := range map[string][]int{"": {100}, "1000": {1000, 21}, "340": {340, 340, 340, 1}, "1": {1}} {
		var sizes []int
		query, seen := "?", map[string]bool{}
		if limit != "" {
			query += "limit=" + limit + "&"
		}
		for after := ""; len(sizes) < len(want); {
			page := a.page(query + after)
			sizes = append(sizes, len(page.Sessions))
			for _, s := range page.Sessions {
				seen[s.ID] = true
			}
			if last := len(seen) == 1021; last != (page.Next == "") {
				t.Errorf("limit %q: after %d of 1021, next is %q", limit, len(seen), page.Next)
			}
			after = "after=" + page.Next
		}
		if !slices.Equal(sizes, want) {
			t.Errorf("limit %q: %v, want %v", limit, sizes, want)
		}
	}
	if page := a.page("?limit=1000&after=" + strings.Repeat("f", 64)); len(page.Sessions) > 0 || page.Next != "" {
		t.Errorf("%+v", page)
	}
}

// TestAdminMergesStores: while a reload changes to another store there are two.
func TestAdminMergesStores(t *testing.T) {
	for _, sizes := range [][]int{{scanPage + 100, scanPage + 100, 10}, {3*scanPage + 100, scanPage, 0}} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			a := startAdmin(t)
			var want, got []string
			for i, size := range sizes {
				st := store.NewMemory()
				pool(t, fmt.Sprint("store ", i), st)
				for n := range size {
					id := fmt.Sprintf("%064x", len(sizes)*n+i)
					putOrphan(t, st, id)
					want = append(want, id)
				}
			}
			slices.Sort(want)
			for after := strings.Repeat("0", 63); after != ""; {
				page := a.page("?limit=1000&after=" + after)
				for _, s := range page.Sessions {
					got = append(got, s.ID)
				}
				after = page.Next
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d are listed of %d, or in another order", len(got), len(want))
			}
			a.end("/"+want[0], http.StatusNoContent, "")
			a.end("/"+want[1], http.StatusNoContent, "")
			a.end("?all=true", http.StatusOK, fmt.Sprintf(`{"ended":%d}`, len(want)-2))
		})
	}
}

// TestAdminScanIsBounded: a filter that matches little costs no answer more than
// it may, and what it matches is found.
func TestAdminScanIsBounded(t *testing.T) {
	a := startAdmin(t)
	newGate(t, nil)
	for i := range mostScanned + 5 {
		putOrphan(t, sharedStore(t), fmt.Sprintf("%064x", i))
	}
	last := fmt.Sprintf("%064x", mostScanned+9)
	if err := sharedStore(t).Put(t.Context(), store.Record{ID: last, Version: 1, State: "denied", Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	first := a.page("?state=denied")
	if want := fmt.Sprintf("%064x", mostScanned-1); len(first.Sessions) != 0 || first.Next != want {
		t.Fatalf("%d sessions, next %q, want none and %q", len(first.Sessions), first.Next, want)
	}
	if second := a.page("?state=denied&after=" + first.Next); len(second.Sessions) != 1 || second.Sessions[0].ID != last || second.Next != "" {
		t.Errorf("%+v", second)
	}
}

// TestAdminShowsTheTruth about what has run out and was not written down.
func TestAdminShowsTheTruth(t *testing.T) {
	a := startAdmin(t)
	newGate(t, nil)
	now := time.Now().Truncate(time.Second).UTC()
	for _, row := range []struct {
		name, state string
		kept        time.Duration
		want        shownSession
	}{
		{"a code that runs", "pending", time.Hour + time.Minute, shownSession{State: "pending", Subject: "s", Changed: now, Until: now.Add(time.Minute)}},
		{"a code that ran out", "pending", time.Hour - time.Minute, shownSession{State: "expired", Reason: "code_expired", Changed: now.Add(-time.Minute)}},
		{"a session", "active", 24*time.Hour + time.Minute, shownSession{State: "active", Subject: "s", Changed: now, Until: now.Add(time.Minute)}},
		{"a session that ran out", "active", 24*time.Hour - time.Minute, shownSession{State: "ended", Changed: now.Add(-time.Minute)}},
		{"an end", "failed", time.Minute, shownSession{State: "failed", Subject: "s", Changed: now}},
	} {
		t.Run(row.name, func(t *testing.T) {
			id := fmt.Sprintf("%x", row.name)
			rec := store.Record{ID: id, Version: 1, State: row.state, Subject: "s", Changed: now, Created: now, Until: now.Add(row.kept)}
			if err := sharedStore(t).Put(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			page := a.page("?limit=1&after=" + id[:len(id)-1])
			row.want.ID, row.want.Created = id, now
			if len(page.Sessions) != 1 || page.Sessions[0] != row.want {
				t.Errorf("%+v, want %+v", page.Sessions, row.want)
			}
			if page := a.page("?state=" + string(row.want.State) + "&limit=1&after=" + id[:len(id)-1]); len(page.Sessions) != 1 || page.Sessions[0].ID != id {
				t.Errorf("by its state: %+v", page.Sessions)
			}
		})
	}
}

// TestAdminWithoutGates: there is nothing to show, and nothing to end.
func TestAdminWithoutGates(t *testing.T) {
	a := startAdmin(t)
	if resp, body := a.do(http.MethodGet, adminPath, nil); resp.StatusCode != http.StatusOK || body != "{\"sessions\":[]}\n" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := a.do(http.MethodDelete, adminPath+"?all=true", nil); resp.StatusCode != http.StatusOK || body != "{\"ended\":0}\n" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestAdminIsProtected by what protects Caddy's own paths there: a page of
// another origin, or one that a name was rebound to, gets nowhere.
func TestAdminIsProtected(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	key := g.terminal()
	for _, row := range []struct {
		name   string
		header map[string]string
		status int
	}{
		{"another host", map[string]string{"Host": "rebind.example.com"}, http.StatusForbidden},
		{"another origin", map[string]string{"Origin": "https://evil.example.com"}, http.StatusForbidden},
		{"no origin but a browser", map[string]string{"Sec-Fetch-Mode": "cors"}, http.StatusForbidden},
		{"origin null", map[string]string{"Origin": "null"}, http.StatusBadRequest},
		{"no-cors", map[string]string{"Sec-Fetch-Mode": "no-cors", "Origin": "http://" + a.addr}, http.StatusBadRequest},
		{"an upgrade", map[string]string{"Upgrade": "websocket", "Connection": "Upgrade"}, http.StatusBadRequest},
	} {
		for _, req := range [][2]string{{"GET", adminPath}, {"DELETE", adminPath + "/" + idOf(t, key)}, {"DELETE", adminPath + "?all=true"}, {"DELETE", adminPath + "?subject=sub-alice"}} {
			if resp, body := a.do(req[0], req[1], row.header); resp.StatusCode != row.status || strings.Contains(body, "sessions") {
				t.Errorf("%s, %s: %d %s", row.name, req, resp.StatusCode, body)
			}
		}
	}
	if resp := g.do(request{target: "/", header: bearer(key)}); resp.StatusCode != http.StatusOK {
		t.Errorf("somebody ended the session: %d", resp.StatusCode)
	}
	if page := a.page(""); len(page.Sessions) != 1 {
		t.Errorf("the test asks amiss: %+v", page)
	}
}
