// This file holds the line that can be broken: a listener that knows its
// connections.
package record

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// listener keeps its port while down or refusing, so that no other program can
// take it.
type listener struct {
	address *net.TCPAddr
	closed  chan struct{}

	mu       sync.Mutex
	inner    net.Listener
	down     bool
	open     map[*conn]struct{}
	refusing chan struct{} // closed when it listens again; nil while it does
	held     int           // the socket that keeps the port meanwhile
}

type conn struct {
	*net.TCPConn
	from *listener
}

func newListener(plain net.Listener) *listener {
	return &listener{address: plain.Addr().(*net.TCPAddr), closed: make(chan struct{}), inner: plain, open: map[*conn]struct{}{}}
}

// Addr is the same all the time.
func (l *listener) Addr() net.Addr { return l.address }

// Close ends it for good.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.closed)
	if l.refusing != nil {
		return syscall.Close(l.held)
	}
	return l.inner.Close()
}

// Accept resets what comes in while down, and waits while refusing.
func (l *listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		inner, refusing := l.inner, l.refusing
		l.mu.Unlock()
		if refusing != nil {
			select {
			case <-refusing:
				continue
			case <-l.closed:
				return nil, net.ErrClosed
			}
		}
		plain, err := inner.Accept()
		if err != nil {
			if l.isRefusing() {
				continue
			}
			return nil, err
		}
		c := &conn{TCPConn: plain.(*net.TCPConn), from: l}
		if l.add(c) {
			return c, nil
		}
		c.reset()
	}
}

func (l *listener) isRefusing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusing != nil
}

// setRefusing puts a socket that is bound, but does not listen, in the place of
// the one that does, or takes it away.
func (l *listener) setRefusing(refuse bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refuse == (l.refusing != nil) {
		return errors.New("the listener is so already")
	}
	if refuse {
		l.cut()
		l.refusing = make(chan struct{})
		if err := l.inner.Close(); err != nil {
			return err
		}
		return l.hold()
	}
	inner, err := net.Listen("tcp", l.address.String())
	if err != nil {
		return err
	}
	l.inner = inner
	close(l.refusing)
	l.refusing = nil
	return syscall.Close(l.held)
}

func (l *listener) hold() (err error) {
	if l.held, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err != nil {
		return err
	}
	syscall.CloseOnExec(l.held)
	if err := syscall.SetsockoptInt(l.held, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	at := &syscall.SockaddrInet4{Port: l.address.Port}
	copy(at.Addr[:], l.address.IP.To4())
	return syscall.Bind(l.held, at)
}

func (l *listener) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return false
	}
	l.open[c] = struct{}{}
	return true
}

func (l *listener) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		l.cut()
	}
}

// cut is called with the lock held.
func (l *listener) cut() {
	for c := range l.open {
		c.reset()
	}
	clear(l.open)
}

// reset cuts the connection with RST: no orderly end that could be taken for
// an answer.
func (c *conn) reset() {
	c.SetLinger(0) //nolint:errcheck // it may be closed already
	c.TCPConn.Close()
}

// Close is called by the server when it is done with the connection.
func (c *conn) Close() error {
	c.from.mu.Lock()
	delete(c.from.open, c)
	c.from.mu.Unlock()
	return c.TCPConn.Close()
}
