// This file shows that gRPC passes through: a real client, a real server, the
// health service that both bring.
package e2e

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// healthServer is a gRPC server that keeps the metadata of its latest call.
type healthServer struct {
	address string
	*health.Server

	mu  sync.Mutex
	saw metadata.MD
}

func startHealth(t *testing.T) *healthServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &healthServer{address: listener.Addr().String(), Server: health.NewServer()}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		h.note(ctx)
		if err := grpc.SetTrailer(ctx, metadata.Pairs("x-late", "1", "x-late", "2")); err != nil {
			return nil, err
		}
		return handle(ctx, req)
	}), grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		h.note(stream.Context())
		return handle(srv, stream)
	}))
	grpc_health_v1.RegisterHealthServer(server, h.Server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); err != nil {
			t.Errorf("gRPC server: %v", err)
		}
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return h
}

func (h *healthServer) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saw = md
}

// last is the metadata of the latest call, which it forgets.
func (h *healthServer) last() metadata.MD {
	h.mu.Lock()
	defer h.mu.Unlock()
	md := h.saw
	h.saw = nil
	return md
}

func (p *passage) grpc(t *testing.T, server *healthServer) {
	conn, err := grpc.NewClient("127.0.0.1:"+p.gate.Port(), grpc.WithTransportCredentials(credentials.NewTLS(p.trust.Clone())), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client := grpc_health_v1.NewHealthClient(conn)
	signedIn := metadata.AppendToOutgoingContext(p.ctx, "authorization", "Bearer "+p.key, "remote-user", "root", "x-mine-bin", "\x00\xff")
	t.Run("unary", func(t *testing.T) { wantUnary(t, signedIn, client, server) })
	t.Run("stream", func(t *testing.T) { wantStream(t, signedIn, client, server) })
	t.Run("nobody", func(t *testing.T) { p.wantUnauthenticated(t, client, server) })
}

func wantUnary(t *testing.T, ctx context.Context, client grpc_health_v1.HealthClient, server *healthServer) {
	var trailer metadata.MD
	got, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer))
	if err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", got, err)
	}
	if !slices.Equal(trailer["x-late"], []string{"1", "2"}) {
		t.Errorf("the trailers are %v", trailer)
	}
	saw := server.last()
	if !slices.Equal(saw["remote-user"], []string{"alice"}) || saw["authorization"] != nil || !slices.Equal(saw["x-mine-bin"], []string{"\x00\xff"}) || !slices.Equal(saw["te"], nil) {
		t.Errorf("the server saw %v", saw)
	}
	// an error of the server is in the trailers alone
	_, err = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "unknown"})
	if status.Code(err) != grpccodes.NotFound || status.Convert(err).Message() != "unknown service" {
		t.Errorf("%v", err)
	}
}

// wantStream fails unless each message of a stream comes when it is sent.
func wantStream(t *testing.T, ctx context.Context, client grpc_health_v1.HealthClient, server *healthServer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "app"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := stream.Recv()
		if err != nil || got.GetStatus() != want {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
	}
	next(grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN)
	server.SetServingStatus("app", grpc_health_v1.HealthCheckResponse_SERVING)
	next(grpc_health_v1.HealthCheckResponse_SERVING)
	server.SetServingStatus("app", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	next(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	if saw := server.last(); !slices.Equal(saw["remote-user"], []string{"alice"}) {
		t.Errorf("the server saw %v", saw)
	}
}

func (p *passage) wantUnauthenticated(t *testing.T, client grpc_health_v1.HealthClient, server *healthServer) {
	starts := len(p.rec.Starts())
	_, err := client.Check(p.ctx, &grpc_health_v1.HealthCheckRequest{})
	if status.Code(err) != grpccodes.Unauthenticated {
		t.Errorf("%v", err)
	}
	stream, err := client.Watch(p.ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != grpccodes.Unauthenticated {
		t.Errorf("a stream: %v", err)
	}
	if saw := server.last(); saw != nil {
		t.Errorf("the server saw %v", saw)
	}
	if n := len(p.rec.Starts()) - starts; n != 0 {
		t.Errorf("%d sign-ins were started", n)
	}
}
