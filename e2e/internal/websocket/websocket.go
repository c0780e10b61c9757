// Package websocket is as much of RFC 6455 as an echo takes, over any stream:
// the clients of the standard libraries know none over HTTP/2 and HTTP/3.
package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
)

// Key is a client's Sec-WebSocket-Key. It does not have to be a secret.
const Key = "AAAAAAAAAAAAAAAAAAAAAA=="

const (
	textFrame = 0x81 // the only and last of its message
	masked    = 0x80
	maxShort  = 125 // bytes in a frame without a longer length field
)

// mask is what a client's frames are masked with (RFC 6455 §5.3).
var mask = [4]byte{1, 2, 3, 4}

// Send writes a client's text message of at most 125 bytes.
func Send(w io.Writer, text string) error {
	if len(text) > maxShort {
		return errors.New("the message is too long")
	}
	frame := append([]byte{textFrame, masked | byte(len(text))}, mask[:]...)
	for i := range len(text) {
		frame = append(frame, text[i]^mask[i%len(mask)])
	}
	_, err := w.Write(frame)
	return err
}

// Receive reads a short text message, of either side.
func Receive(r io.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	length := head[1] &^ masked
	if head[0] != textFrame || length > maxShort {
		return "", errors.New("this is no short text message")
	}
	var key [4]byte
	if head[1]&masked != 0 {
		if _, err := io.ReadFull(r, key[:]); err != nil {
			return "", err
		}
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return "", err
	}
	for i := range text {
		text[i] ^= key[i%len(key)]
	}
	return string(text), nil
}

// Accept is the answer to a client's key (RFC 6455 §4.2.2).
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Echo serves a WebSocket that sends back each message until the client is
// gone.
func Echo(w http.ResponseWriter, r *http.Request) {
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
		Accept(r.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n")
	for err == nil {
		err = echoOne(conn, both.Reader)
	}
}

func echoOne(w io.Writer, r *bufio.Reader) error {
	text, err := Receive(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append([]byte{textFrame, byte(len(text))}, text...))
	return err
}
