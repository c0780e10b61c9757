// The device authorizations under way: their codes, polls and decisions.

package idp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Why a user code opens nothing; the page has a sentence for each.
var (
	errCodeUnknown = errors.New("no sign-in has this code")
	errCodeExpired = errors.New("the code has expired")
	errCodeUsed    = errors.New("the code was used already")
)

// keepDecided is how long a dead authorization is remembered, so that its
// device and its person hear why it is dead instead of "unknown".
const keepDecided = 10 * time.Minute

type deviceState int

const (
	devicePending deviceState = iota
	deviceApproved
	deviceDenied
	deviceRedeemed // its tokens were handed out
)

// A device is one device authorization (RFC 8628 §3.2).
type device struct {
	clientID   string
	deviceCode string
	userCode   string // as shown
	scopes     []string
	expires    time.Time

	state    deviceState
	subject  string
	signedIn time.Time

	interval time.Duration
	lastPoll time.Time
}

type devices struct {
	now      func() time.Time
	interval time.Duration

	mu     sync.Mutex
	byCode map[string]*device // by device code
	byUser map[string]*device // by user code, normalized
}

func newDevices(set settings) *devices {
	return &devices{
		now: set.now, interval: set.interval,
		byCode: make(map[string]*device), byUser: make(map[string]*device),
	}
}

// normalizeCode makes one of the ways to write a user code: case and dashes do
// not matter (RFC 8628 §6.1).
func normalizeCode(code string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToUpper(code))
}

// StoreDeviceAuthorization implements op.DeviceAuthorizationStorage. Scopes
// that nobody here knows are left out (RFC 6749 §3.3).
func (d *devices) StoreDeviceAuthorization(_ context.Context, clientID, deviceCode, userCode string, expires time.Time, scopes []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget()
	key := normalizeCode(userCode)
	if d.byUser[key] != nil {
		return op.ErrDuplicateUserCode
	}
	dev := &device{
		clientID: clientID, deviceCode: deviceCode, userCode: userCode, expires: expires,
		scopes:   slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return !knownScope(s) }),
		interval: d.interval,
	}
	d.byCode[deviceCode], d.byUser[key] = dev, dev
	return nil
}

func (d *devices) forget() {
	now := d.now()
	for code, dev := range d.byCode {
		if expired(now, dev.expires.Add(keepDecided)) {
			delete(d.byCode, code)
			delete(d.byUser, normalizeCode(dev.userCode))
		}
	}
}

// GetDeviceAuthorizatonState implements op.DeviceAuthorizationStorage: one
// poll. Its errors are those of RFC 8628 §3.5; without one the person has
// approved, and the device code is spent.
func (d *devices) GetDeviceAuthorizatonState(_ context.Context, clientID, deviceCode string) (*op.DeviceAuthorizationState, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, dev := d.now(), d.byCode[deviceCode]
	if dev == nil || dev.clientID != clientID || dev.state == deviceRedeemed {
		return nil, oidc.ErrInvalidGrant().WithDescription("unknown device code")
	}
	if dev.state == deviceDenied {
		return nil, oidc.ErrAccessDenied()
	}
	if expired(now, dev.expires) {
		return nil, oidc.ErrExpiredDeviceCode()
	}
	if dev.state == devicePending {
		return nil, dev.notYet(now)
	}
	dev.state = deviceRedeemed
	return &op.DeviceAuthorizationState{
		ClientID: dev.clientID, Scopes: slices.Clone(dev.scopes), Expires: dev.expires, Done: true,
		Subject: dev.subject, AMR: []string{"pwd"}, AuthTime: dev.signedIn,
	}, nil
}

// notYet says whether a poll of a pending device came in time. One that did
// not makes the interval longer for good (RFC 8628 §3.5).
func (d *device) notYet(now time.Time) error {
	early := !d.lastPoll.IsZero() && now.Sub(d.lastPoll) < d.interval
	d.lastPoll = now
	if early {
		d.interval += 5 * time.Second
		return oidc.ErrSlowDown()
	}
	return oidc.ErrAuthorizationPending()
}

// waiting returns what the person is asked to approve, or one of the errors
// above.
func (d *devices) waiting(userCode string) (device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, err := d.find(userCode)
	if err != nil {
		return device{}, err
	}
	return *dev, nil
}

// approve and decline are the person's answer; only the first one counts.
func (d *devices) approve(userCode, subject string, signedIn time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, err := d.find(userCode)
	if err != nil {
		return err
	}
	dev.state, dev.subject, dev.signedIn = deviceApproved, subject, signedIn
	return nil
}

func (d *devices) decline(userCode string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, err := d.find(userCode)
	if err != nil {
		return err
	}
	dev.state = deviceDenied
	return nil
}

func (d *devices) find(userCode string) (*device, error) {
	dev := d.byUser[normalizeCode(userCode)]
	switch {
	case dev == nil:
		return nil, errCodeUnknown
	case dev.state != devicePending:
		return nil, errCodeUsed
	case expired(d.now(), dev.expires):
		return nil, errCodeExpired
	}
	return dev, nil
}
