package main

import (
	"fmt"
	"os"
	"strings"

	pitaya "github.com/topfreegames/pitaya/v3/pkg"
	"github.com/topfreegames/pitaya/v3/pkg/acceptor"
	"github.com/topfreegames/pitaya/v3/pkg/cluster"
	"github.com/topfreegames/pitaya/v3/pkg/component"
	"github.com/topfreegames/pitaya/v3/pkg/config"
)

// gate and room are the two servers of the bench, which know each other from the start: looking
// for servers is no part of what is measured.
var (
	gate = cluster.NewServer("gate-1", "gate", true)
	room = cluster.NewServer("room-1", "room", false)
)

// serveCluster runs one of the two, which reach each other through the broker at that address.
func serveCluster(me *cluster.Server, broker string, conf *config.PitayaConfig) {
	builder := pitaya.NewDefaultBuilder(me.Frontend, me.Type, pitaya.Standalone, nil, *conf)
	builder.Server, builder.ServerMode = me, pitaya.Cluster
	// Acceptors listen before the rest has begun; this one prints what there is once all has.
	known := &fixed{announced: broker}
	builder.ServiceDiscovery = known
	joinBroker(builder, "nats://"+broker)
	if me.Frontend {
		listener := acceptor.NewTCPAcceptor("127.0.0.1:0")
		builder.AddAcceptor(listener)
		known.listener = listener
	}
	app := builder.Build()
	if !me.Frontend {
		app.Register(&Benchmarks{app: app},
			component.WithName("benchmarks"), component.WithNameFunc(strings.ToLower))
	}
	app.Start()
}

// joinBroker makes what Pitaya makes of its defaults, but for the address.
func joinBroker(builder *pitaya.Builder, url string) {
	rpc := builder.Config.Cluster.RPC
	rpc.Server.Nats.Connect, rpc.Client.Nats.Connect = url, url
	var err error
	builder.RPCServer, err = cluster.NewNatsRPCServer(
		rpc.Server.Nats, builder.Server, builder.MetricsReporters, builder.DieChan,
		builder.SessionPool)
	if err != nil {
		exit(1, "rpc server: %v", err)
	}
	builder.RPCClient, err = cluster.NewNatsRPCClient(
		rpc.Client.Nats, builder.Server, builder.MetricsReporters, builder.DieChan)
	if err != nil {
		exit(1, "rpc client: %v", err)
	}
}

// fixed is a service discovery that has found everybody.
type fixed struct {
	// announced is where the broker is, which is also where a server is that has no acceptor.
	announced string
	listener  acceptor.Acceptor
}

func (f *fixed) GetServersByType(serverType string) (map[string]*cluster.Server, error) {
	for _, server := range f.GetServers() {
		if server.Type == serverType {
			return map[string]*cluster.Server{server.ID: server}, nil
		}
	}
	return nil, fmt.Errorf("no servers of type %q", serverType)
}

func (f *fixed) GetServer(id string) (*cluster.Server, error) {
	for _, server := range f.GetServers() {
		if server.ID == id {
			return server, nil
		}
	}
	return nil, fmt.Errorf("no server %q", id)
}

func (f *fixed) GetServers() []*cluster.Server { return []*cluster.Server{gate, room} }

func (f *fixed) SyncServers(bool) error { return nil }

func (f *fixed) AddListener(cluster.SDListener) {}

func (f *fixed) Init() error { return nil }

// AfterInit comes when all else has begun: Pitaya starts its service discovery last.
func (f *fixed) AfterInit() {
	if f.listener != nil {
		f.announced = f.listener.GetAddr()
	}
	fmt.Fprintln(os.Stdout, f.announced)
}

func (f *fixed) BeforeShutdown() {}

func (f *fixed) Shutdown() error { return nil }
