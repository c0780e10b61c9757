package ports

import (
	"net"
	"strconv"
	"testing"
)

func TestFree(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		port := Free(t)
		if n, err := strconv.Atoi(port); err != nil || n < first || n > last {
			t.Errorf("port %q is not between %d and %d", port, first, last)
		}
		if seen[port] {
			t.Errorf("port %s was given twice", port)
		}
		seen[port] = true
	}
}

// TestComesBack is what the range is for: the near ends of connections never
// take the port of a server that is down for a moment.
func TestComesBack(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for range 500 {
		c, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if port := c.LocalAddr().(*net.TCPAddr).Port; port <= last {
			t.Fatalf("a connection's near end has port %d", port)
		}
	}
}

func TestIsFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if isFree(port) {
		t.Error("a port with a listener counts as free")
	}
	l.Close()
}

// TestParts: the packages whose tests take ports do not share them with the
// largest.
func TestParts(t *testing.T) {
	from, to := part("e2e.test")
	if from < first || to > last || to-from < 2000 {
		t.Errorf("from %d to %d", from, to)
	}
	for _, program := range []string{"gate.test", "idpserver.test", "keycloak.test", "record.test"} {
		if a, b := part(program); a <= to && b >= from {
			t.Errorf("%s shares ports with e2e.test: %d to %d", program, a, b)
		}
	}
}
