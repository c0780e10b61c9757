// Package ports finds ports for servers that a test starts.
package ports

import (
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// Systems hand out ports above last for the near end of connections (Linux from
// 32768 on, others from 49152), and a listener cannot have a port that any
// connection holds. A server that is to come back on its port must be below.
const first, last = 10000, 32767

// parts is into how many the range is divided. A program keeps to one, by its
// name: the packages' tests run side by side, and a port that one tries out is
// not free for another in that moment.
const parts = 8

// part is this program's.
func part(program string) (from, to int) {
	hash := fnv.New32a()
	hash.Write([]byte(filepath.Base(program)))
	size := (last - first + 1) / parts
	from = first + int(hash.Sum32()%parts)*size
	return from, from + size - 1
}

// tries bounds the search: most ports are free on any machine.
const tries = 1000

var (
	mu    sync.Mutex
	given = map[string]bool{}
)

// Free is a port that is free on loopback now, and that this process gets only
// once: it is there for a server that stops and starts again.
func Free(t testing.TB) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	from, to := part(os.Args[0])
	for range tries {
		port := strconv.Itoa(from + rand.N(to-from+1))
		if given[port] || !isFree(port) {
			continue
		}
		given[port] = true
		return port
	}
	t.Fatalf("no free port between %d and %d", from, to)
	return ""
}

// isFree looks at all addresses: gateways listen on all of them. No program is
// started meanwhile: until it runs, it would have the listener as well, and the
// port would be taken though this has closed it.
func isFree(port string) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return false
	}
	return l.Close() == nil
}
