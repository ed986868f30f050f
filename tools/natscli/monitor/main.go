// Reads the monitoring pages of a server as nats-top does, into the types of nats-server itself, and prints what nats-top shows.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func read(url string, into any) {
	answer, err := http.Get(url)
	if err == nil {
		defer answer.Body.Close()
		err = json.NewDecoder(answer.Body).Decode(into)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, url, err)
		os.Exit(1)
	}
}

func main() {
	var varz server.Varz
	var connz server.Connz
	var closed server.Connz
	var subsz server.Subsz
	read(os.Args[1]+"/varz", &varz)
	read(os.Args[1]+"/connz?limit=1024&sort=subs&subs=1", &connz)
	read(os.Args[1]+"/connz?state=closed&subs=detail&auth=1", &closed)
	read(os.Args[1]+"/subsz?subs=1", &subsz)
	lines := []string{}
	durations := true
	for _, each := range connz.Conns {
		_, err := time.ParseDuration(each.RTT) // as the exporter for Prometheus does
		durations = durations && err == nil && !each.Start.IsZero() && !each.LastActivity.IsZero()
		lines = append(lines, fmt.Sprint(each.Name, " ", each.NumSubs, " ", each.Pending, " ", each.OutMsgs, " ", each.InMsgs, " ",
			each.OutBytes, " ", each.InBytes, " ", each.Lang, " ", each.Version, " ", len(each.Subs)))
	}
	printed := map[string]any{
		"version":     varz.Version,
		"has_started": !varz.Start.IsZero() && !varz.Now.IsZero() && varz.Uptime != "",
		"has_memory":  varz.Mem > 0 && varz.Cores > 0 && varz.CPU >= 0,
		"in":          []int64{varz.InMsgs, varz.InBytes},
		"out":         []int64{varz.OutMsgs, varz.OutBytes},
		"slow":        varz.SlowConsumers,
		"connections": []int{varz.Connections, connz.NumConns, connz.Total},
		"lines":       lines,
		"durations":   durations,
		"has_closed":  closed.NumConns >= 0 && closed.Limit == 1024,
		"fanout":      subsz.MaxFanout,
	}
	text, _ := json.Marshal(printed)
	fmt.Println(string(text))
}
