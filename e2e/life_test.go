// This file is a minute in the life of fifty sessions whose tokens live for
// seconds, with reloads, and with kills between a provider's answer and our
// write: no session is lost but by those, and each is told.
package e2e

import (
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
	// lifeSessions are on each of so many gateways side by side.
	lifeSessions, lifeLanes = 25, 2
	lifeTokens              = 3 * time.Second
	// lifeKills is how many kills are placed right after an answer with new
	// tokens, on each gateway, and how many such answers have to be lost by then;
	// up to lifeRounds kills are tried for that.
	lifeKills, lifeRounds = 10, 20
	// killPlaced is how long after such an answer the kill comes at the latest.
	killPlaced = 2 * time.Millisecond
	// sentReaches is more than a request takes to the provider.
	sentReaches = 500 * time.Millisecond
	// killAnywhere is the same for a kill that is not placed.
	killAnywhere = time.Second
)

func TestMinuteOfFifty(t *testing.T) {
	t.Parallel()
	var losses, lost, kills, asked, later atomic.Int64
	t.Run("lanes", func(t *testing.T) {
		for lane := range lifeLanes {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				l := &life{stage: newStage(t, plan{caddyfile: crowdSite(), crowded: true, tokenLife: lifeTokens})}
				l.run(t)
				w := l.lossesIn(t)
				losses.Add(int64(w))
				lost.Add(int64(len(l.over)))
				kills.Add(int64(l.kills))
				asked.Add(l.asked.Load())
				later.Add(l.later.Load())
				if len(l.over) > w {
					t.Errorf("%d sessions are lost, and the new tokens of only %d answers were not written", len(l.over), w)
				}
			})
		}
	})
	t.Logf("%d kills, %d answers lost, %d sessions lost; %d requests, %d of them told to come again",
		kills.Load(), losses.Load(), lost.Load(), asked.Load(), later.Load())
	if losses.Load() < lifeKills*lifeLanes {
		t.Errorf("the kills missed: only %d answers were lost, want %d, so this proves too little", losses.Load(), lifeKills*lifeLanes)
	}
}

// life is one gateway with its clients.
type life struct {
	*stage
	clients []*lifeClient
	kills   int

	// epoch grows by one with each kill and with each start that follows: it is
	// odd while the gateway may be away.
	epoch atomic.Int64

	asked, later atomic.Int64 // requests, and answers with 503

	mu       sync.Mutex
	over     []lifeSession // lost
	problems []string
}

// lifeSession is a session by its first refresh token.
type lifeSession struct {
	name, token string
	live        bool
}

func (l *life) run(t *testing.T) {
	t.Helper()
	l.populate(t)
	stop := l.begin()
	for n := 0; n < lifeKills || n < lifeRounds && l.lossesIn(t) < lifeKills; n++ {
		l.round(t, n)
	}
	stop()
	for _, problem := range l.problems {
		t.Error(problem)
	}
}

// round is a reload or a kill at any moment, and a kill that is placed. What is
// lost signs in anew while all is calm.
func (l *life) round(t *testing.T, n int) {
	t.Helper()
	l.letPass(rand.N(killAnywhere))
	if n%3 == 0 {
		l.epoch.Add(1)
		l.gate.Kill()
		l.startAgain(t)
	} else {
		l.gate.Reload(t, strings.Replace(crowdSite(), "log\n", header(fmt.Sprint(n)), 1))
	}
	l.settle(t)
	l.placeKill(t)
	l.startAgain(t)
	l.settle(t)
	l.signInLost(t)
}

// placeKill kills the gateway right after it was sent new tokens.
func (l *life) placeKill(t *testing.T) {
	t.Helper()
	killed := make(chan struct{})
	var once sync.Once
	l.rec.HandOver(func(e record.Entry) {
		if e.NewRefreshToken == "" || e.RefreshToken == "" {
			return
		}
		once.Do(func() {
			l.letPass(rand.N(killPlaced))
			l.epoch.Add(1)
			l.gate.Kill()
			close(killed)
		})
	})
	select {
	case <-killed:
	case <-l.ctx.Done():
		t.Fatal("nothing was refreshed")
	}
	l.rec.HandOver(nil)
}

// startAgain gives what the killed gateway has sent time to reach the provider:
// its retry must not overtake it there, which would be a token that comes after
// its successor.
func (l *life) startAgain(t *testing.T) {
	t.Helper()
	l.letPass(sentReaches)
	l.kills++
	l.gate.StartAgain(t)
	l.epoch.Add(1)
}

// settle waits until each session has been refreshed anew, or is over: two
// kills must not come upon the same refresh.
func (l *life) settle(t *testing.T) {
	t.Helper()
	since := time.Now()
	for _, c := range l.clients {
		l.await(t, "a refresh of each session", func() bool {
			token, over := c.session()
			if over {
				return true
			}
			chain := l.chain(token)
			last := chain[len(chain)-1]
			return last.Start.After(since) && last.Status == http.StatusOK
		})
	}
}

// signInLost has those sign in anew who have lost their session.
func (l *life) signInLost(t *testing.T) {
	t.Helper()
	var done sync.WaitGroup
	for _, c := range l.clients {
		if _, over := c.session(); over {
			done.Go(func() { c.signIn(t) })
		}
	}
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// chain are the refreshes of the session that began with a refresh token, in
// order. It begins with an empty one, for the first token's own answer.
func (l *life) chain(token string) []record.Entry {
	chain := []record.Entry{{NewRefreshToken: token}}
	for _, e := range l.rec.Refreshes() {
		for _, before := range chain {
			if e.RefreshToken == before.NewRefreshToken {
				chain = append(chain, e)
				break
			}
		}
	}
	return chain
}

// lossesIn counts the answers with new tokens that the gateway did not keep:
// those tokens were never presented, nor does a session live with them.
func (l *life) lossesIn(t *testing.T) (n int) {
	t.Helper()
	for _, session := range l.sessions() {
		lost := lossesOf(t, session.name, l.chain(session.token))
		if session.live {
			lost-- // the last one, which it lives with
		}
		if lost == 0 != session.live {
			t.Errorf("%s: live is %v, and %d answers were lost", session.name, session.live, lost)
		}
		n += lost
	}
	return n
}

// lossesOf counts them in one chain, and fails where a token is presented once
// more that does not have to be.
func lossesOf(t *testing.T, name string, chain []record.Entry) (lost int) {
	t.Helper()
	presented := map[string][]record.Entry{}
	for _, e := range chain[1:] {
		presented[e.RefreshToken] = append(presented[e.RefreshToken], e)
	}
	for _, e := range chain {
		if e.NewRefreshToken != "" && presented[e.NewRefreshToken] == nil {
			lost++
		}
	}
	for _, times := range presented {
		first := times[0]
		kept := first.Status != 0 && presented[first.NewRefreshToken] != nil
		if len(times) > 2 || len(times) == 2 && kept {
			t.Errorf("%s: a refresh token was presented %d times, and the first answer was kept: %v", name, len(times), kept)
		}
	}
	return lost
}

// sessions are all that there were.
func (l *life) sessions() []lifeSession {
	l.mu.Lock()
	all := append([]lifeSession(nil), l.over...)
	l.mu.Unlock()
	for _, c := range l.clients {
		if token, over := c.session(); !over {
			all = append(all, lifeSession{name: c.name, token: token, live: true})
		}
	}
	return all
}

func (l *life) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.problems) < 10 {
		l.problems = append(l.problems, fmt.Sprintf(format, args...))
	}
}
