// This file kills the gateway around the moment of an approval: between the
// provider's tokens and our write lies the only loss, and it is told.
package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/record"
)

const (
	// kills is how many there are in all, on so many gateways side by side.
	kills, killLanes = 200, 8
	// killSignIns are under way at each kill, and killWithin is how long after
	// the first tokens the kill comes at the latest.
	killSignIns = 4
	killWithin  = 60 * time.Millisecond
)

func TestKilledAroundApproval(t *testing.T) {
	t.Parallel()
	var active, lost atomic.Int64
	t.Run("lanes", func(t *testing.T) {
		for lane := range killLanes {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, plan{caddyfile: crowdSite(), crowded: true})
				k := &killer{stage: s}
				k.arm()
				for range kills / killLanes {
					k.round(t)
				}
				active.Add(k.active)
				lost.Add(k.lost)
			})
		}
	})
	t.Logf("%d kills: %d sign-ins active, %d lost", kills, active.Load(), lost.Load())
	if active.Load()+lost.Load() != kills*killSignIns || active.Load() == 0 {
		t.Errorf("%d active and %d lost of %d", active.Load(), lost.Load(), kills*killSignIns)
	}
}

// killer is one gateway that is killed again and again.
type killer struct {
	*stage
	active, lost int64

	mu    sync.Mutex
	fire  chan struct{} // closed with the first tokens of a round
	fired bool
}

// arm notes the provider's tokens as they pass the recorder.
func (k *killer) arm() {
	k.watchAnswers(plan{crowded: true, tokens: func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.fire != nil && !k.fired {
			k.fired = true
			close(k.fire)
		}
	}})
}

// round has some sign-ins approved, kills the gateway at a random moment around
// their first tokens, and asks each client what became of its sign-in.
func (k *killer) round(t *testing.T) {
	t.Helper()
	signIns := make([]answer, killSignIns)
	for i := range signIns {
		signIns[i] = k.startJSON(t, "/")
	}
	k.mu.Lock()
	fire := make(chan struct{})
	k.fire, k.fired = fire, false
	k.mu.Unlock()
	for _, a := range signIns {
		// Each from a browser of its own: oidc-provider takes all back that was
		// approved in one browser where a code is presented once more.
		k.approve(t, a.Complete)
	}
	select {
	case <-fire:
	case <-k.ctx.Done():
		t.Fatal("no approval was polled for")
	}
	k.letPass(rand.N(killWithin))
	k.gate.Kill()
	killed := time.Now()
	k.gate.StartAgain(t)
	for _, a := range signIns {
		k.settled(t, a, killed)
	}
}

// lastPoll is the last poll that was begun by then; the zero value is none.
func (k *killer) lastPoll(t *testing.T, userCode string, by time.Time) (last record.Entry) {
	t.Helper()
	for _, poll := range k.polls(t, userCode) {
		if poll.Start.Before(by) {
			last = poll
		}
	}
	return last
}

// settled fails unless a sign-in has come to one end that its client sees, and
// that stays. It may be lost only where a poll was under way, or answered.
func (k *killer) settled(t *testing.T, a answer, killed time.Time) {
	t.Helper()
	end := k.wait(t, a.Session)
	var said answer
	if err := json.Unmarshal([]byte(end.Body), &said); err != nil {
		t.Fatalf("status %d: %v", end.Status, err)
	}
	got := k.get(t, "/", "-H", bearer(a.Session), "-H", asJSON)
	switch {
	case end.Status == http.StatusOK && said.Status == "active":
		k.active++
		wantStatus(t, got, 200)
		wantAlice(t, echo(t, got.Body))
	case end.Status == http.StatusGone && said.Reason == "forgotten":
		k.lost++
		if polled := k.lastPoll(t, a.UserCode, killed); polled.Status == http.StatusOK {
			k.afterEnd++ // nobody was left who knew of the tokens
		} else if polled.Status != 0 || polled.Start.IsZero() {
			t.Errorf("a sign-in is lost whose last poll before the kill, at %v, was %+v", killed, polled)
		}
		wantInvalidToken(t, got, "forgotten")
		next := k.get(t, "/", "-b", cookie(a.Session))
		wantStatus(t, next, 401)
		if shown := readText(t, next.Body); shown.code == a.UserCode || !strings.Contains(next.Body, "restarted") {
			t.Errorf("the client is shown\n%s", next.Body)
		}
	default:
		t.Errorf("a sign-in ended with status %d: %+v", end.Status, said)
	}
}
