// A broker written in Go, mochi-mqtt, for the brokers ring: MQTT 3.1.1 and 5 on one port of loopback.
package main

import (
	"flag"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/hooks/storage/bolt"
	"github.com/mochi-mqtt/server/v2/listeners"
	"go.etcd.io/bbolt"
)

func main() {
	address := flag.String("listen", "127.0.0.1:1883", "where to listen")
	state := flag.String("state", "", "a file that keeps sessions and messages; without it they end with the process")
	user := flag.String("user", "", "the only user; without it everybody is admitted")
	password := flag.String("password", "", "the user's password")
	flag.Parse()

	capabilities := mqtt.NewDefaultServerCapabilities()
	// An observer subscribes to the whole fleet, 500 messages a second at most in this ring: a minute of that waits, where the
	// default of 8,192 would hold a quarter. Each client has such a queue of its own, made when it connects: one of 2^20 places
	// takes 8 MiB, and on a busy machine the garbage collector, which reads all of them, holds a CONNACK back for more than ten
	// seconds.
	capabilities.MaximumClientWritesPending = 1 << 15
	capabilities.MaximumInflight = 1<<16 - 1
	server := mqtt.New(&mqtt.Options{
		Capabilities: capabilities,
		Logger:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})

	rules := &auth.Ledger{Auth: auth.AuthRules{{Allow: true}}}
	if *user != "" {
		rules.Auth = auth.AuthRules{{Username: auth.RString(*user), Password: auth.RString(*password), Allow: true}}
	}
	must(server.AddHook(new(auth.Hook), &auth.Options{Ledger: rules}))
	if *state != "" {
		// The process is killed in the tests, never the machine: what was written is kept without waiting for a disk.
		must(server.AddHook(new(bolt.Hook), &bolt.Options{Path: *state, Options: &bbolt.Options{NoSync: true}}))
	}
	must(server.AddListener(listeners.NewTCP(listeners.Config{ID: "mqtt", Address: *address})))

	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	must(server.Serve())
	log.Print("mochi listens on ", *address)
	<-end
	must(server.Close())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
