// Plays the scenarios of tests/clients/README.md with nats.go, and prints one line of JSON for each.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const patience = 15 * time.Second

type result map[string]any

var input = bufio.NewReader(os.Stdin)

// must ends the scenario, with the error as what is said of it.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

func connect(options ...nats.Option) *nats.Conn {
	options = append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.Timeout(patience),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	return got(nats.Connect(os.Getenv("NATS_URL"), options...))
}

func say(line any) {
	fmt.Println(string(got(json.Marshal(line))))
}

// restart has the server stopped and started again, and comes back when `again` has told of the new connection.
func restart(again <-chan struct{}) {
	say(result{"ask": "restart"})
	got(input.ReadString('\n'))
	select {
	case <-again:
	case <-time.After(patience):
		panic(errors.New("the client did not come back"))
	}
}

func next(subscription *nats.Subscription) *nats.Msg {
	return got(subscription.NextMsg(patience))
}

func ask(client *nats.Conn, subject string, body any) map[string]any {
	payload, isBytes := body.([]byte)
	if !isBytes {
		payload = got(json.Marshal(body))
	}
	answer := map[string]any{}
	must(json.Unmarshal(got(client.Request(subject, payload, patience)).Data, &answer))
	return answer
}

func until(condition func() bool) {
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			panic(errors.New("it did not happen in time"))
		}
	}
}

// core NATS

func connecting() result {
	client := connect()
	defer client.Close()
	id := got(client.GetClientID())
	return result{"max_payload": client.MaxPayload(), "has_client_id": id > 0, "headers": client.HeadersSupported()}
}

func publishSubscribe() result {
	client := connect()
	defer client.Close()
	subscription := got(client.SubscribeSync("flow.a"))
	const count = 500
	for number := range count {
		must(client.Publish("flow.a", []byte(fmt.Sprint(number))))
	}
	must(client.Publish("flow.a", make([]byte, client.MaxPayload())))
	must(client.Publish("flow.a", nil))
	inOrder := true
	for number := range count {
		inOrder = inOrder && string(next(subscription).Data) == fmt.Sprint(number)
	}
	return result{"in_order": inOrder, "largest": len(next(subscription).Data), "empty": len(next(subscription).Data)}
}

func wildcards() result {
	client := connect()
	defer client.Close()
	var found []string
	patterns := []string{"wild.*.end", "wild.>"}
	subscriptions := map[string]*nats.Subscription{}
	for _, pattern := range patterns {
		subscriptions[pattern] = got(client.SubscribeSync(pattern))
	}
	for _, subject := range []string{"wild.a.end", "wild.b.c", "wild", "other.a.end", "wild.last.end"} {
		must(client.Publish(subject, nil))
	}
	for _, pattern := range patterns {
		for subject := ""; subject != "wild.last.end"; {
			subject = next(subscriptions[pattern]).Subject
			found = append(found, pattern+" "+subject)
		}
	}
	sort.Strings(found)
	return result{"got": found}
}

func queues() result {
	first, second := connect(), connect()
	defer first.Close()
	defer second.Close()
	const count = 120
	var counts [5]atomic.Int64
	subscribe := func(client *nats.Conn, queue string, at int) {
		got(client.QueueSubscribe("jobs", queue, func(*nats.Msg) { counts[at].Add(1) }))
	}
	subscribe(first, "workers", 0)
	subscribe(first, "workers", 1)
	subscribe(second, "workers", 2)
	subscribe(second, "auditors", 3)
	got(first.Subscribe("jobs", func(*nats.Msg) { counts[4].Add(1) }))
	must(first.Flush())
	must(second.Flush())
	for range count {
		must(first.Publish("jobs", []byte("job")))
	}
	workers := func() int64 { return counts[0].Load() + counts[1].Load() + counts[2].Load() }
	until(func() bool { return workers() >= count && counts[3].Load() >= count && counts[4].Load() >= count })
	must(first.Flush())
	must(second.Flush())
	all := counts[0].Load() > 0 && counts[1].Load() > 0 && counts[2].Load() > 0
	return result{"workers": workers(), "auditors": counts[3].Load(), "plain": counts[4].Load(), "all_worked": all}
}

func requests(options ...nats.Option) result {
	client, service := connect(options...), connect()
	defer client.Close()
	defer service.Close()
	got(service.Subscribe("service.echo", func(message *nats.Msg) {
		must(message.Respond(append([]byte("to "), message.Data...)))
	}))
	must(service.Flush())
	var right atomic.Int64
	var wait sync.WaitGroup
	for number := range 50 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			answer, err := client.Request("service.echo", []byte(fmt.Sprint(number)), patience)
			if err == nil && string(answer.Data) == fmt.Sprintf("to %d", number) {
				right.Add(1)
			}
		}()
	}
	wait.Wait()
	return result{"right": right.Load()}
}

func headers() result {
	client := connect()
	defer client.Close()
	subscription := got(client.SubscribeSync("headed"))
	message := nats.NewMsg("headed")
	message.Data = []byte("body")
	message.Header = nats.Header{"X-Case": {"Kept"}, "lower": {"a: b"}}
	must(client.PublishMsg(message))
	must(client.PublishMsg(&nats.Msg{Subject: "headed", Header: nats.Header{"only": {"this"}}}))
	must(client.Publish("headed", []byte("none")))
	first, second, third := next(subscription), next(subscription), next(subscription)
	return result{
		"first":  result{"X-Case": first.Header["X-Case"][0], "lower": first.Header["lower"][0]},
		"bodies": []string{string(first.Data), string(second.Data), string(third.Data)},
		"only":   second.Header["only"][0],
		"none":   len(third.Header) == 0,
	}
}

func headerEmpty() result {
	client := connect()
	defer client.Close()
	subscription := got(client.SubscribeSync("headed.empty"))
	must(client.PublishMsg(&nats.Msg{Subject: "headed.empty", Header: nats.Header{"empty": {""}}}))
	return result{"values": next(subscription).Header["empty"]}
}

func headerTwice() result {
	client := connect()
	defer client.Close()
	subscription := got(client.SubscribeSync("headed.twice"))
	must(client.PublishMsg(&nats.Msg{Subject: "headed.twice", Header: nats.Header{"X-Two": {"a", "b"}}}))
	return result{"values": next(subscription).Header["X-Two"]}
}

func noResponders() result {
	client := connect()
	defer client.Close()
	_, err := client.Request("nobody.is.there", nil, patience)
	return result{"no_responders": errors.Is(err, nats.ErrNoResponders)}
}

func unsubscribe() result {
	client := connect()
	defer client.Close()
	limited, witness := got(client.SubscribeSync("few")), got(client.SubscribeSync("few"))
	must(limited.AutoUnsubscribe(3))
	for number := range 10 {
		must(client.Publish("few", []byte(fmt.Sprint(number))))
	}
	for range 10 {
		next(witness)
	}
	count := 0
	for ; ; count++ {
		if _, err := limited.NextMsg(patience); err != nil {
			break
		}
	}
	return result{"limited": count, "witness": 10}
}

func noEcho() result {
	quiet, other := connect(nats.NoEcho()), connect()
	defer quiet.Close()
	defer other.Close()
	subscription := got(quiet.SubscribeSync("echoes"))
	must(quiet.Publish("echoes", []byte("mine")))
	must(quiet.Flush())
	must(other.Publish("echoes", []byte("theirs")))
	return result{"got": string(next(subscription).Data)}
}

func drain() result {
	closed := make(chan struct{})
	receiver, publisher := connect(nats.ClosedHandler(func(*nats.Conn) { close(closed) })), connect()
	defer publisher.Close()
	var handled atomic.Int64
	got(receiver.Subscribe("drained", func(*nats.Msg) { handled.Add(1) }))
	must(receiver.Flush())
	for range 200 {
		must(publisher.Publish("drained", []byte("x")))
	}
	must(publisher.Flush())
	must(receiver.Flush())
	must(receiver.Drain())
	select {
	case <-closed:
	case <-time.After(patience):
	}
	return result{"handled": handled.Load(), "closed": receiver.IsClosed()}
}

func reconnect() result {
	again := make(chan struct{}, 8)
	client := connect(nats.ReconnectHandler(func(*nats.Conn) { again <- struct{}{} }))
	defer client.Close()
	plain, queue := got(client.SubscribeSync("again.a")), got(client.QueueSubscribeSync("again.q", "group"))
	wild, limited := got(client.SubscribeSync("again.w.*")), got(client.SubscribeSync("again.a"))
	must(limited.AutoUnsubscribe(3))
	subjects := []string{"again.a", "again.q", "again.w.x"}
	round := func() []string {
		var found []string
		for _, subject := range subjects {
			must(client.Publish(subject, []byte("x")))
		}
		for _, subscription := range []*nats.Subscription{plain, queue, wild} {
			found = append(found, next(subscription).Subject)
		}
		next(limited)
		return found
	}
	before := round()
	restart(again)
	after := round()
	must(client.Publish("again.a", []byte("x")))
	next(limited)
	must(client.Publish("again.a", []byte("x")))
	_, err := limited.NextMsg(patience)
	return result{"before": before, "after": after, "limited_has_ended": err != nil}
}

// mailboxes

const mailbox = "$mq9.AI.MAILBOX."

func isPrivate(name string) bool {
	return len(name) == 28 && strings.HasPrefix(name, "m-") && strings.Trim(name[2:], "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func mailboxCreate() result {
	client := connect()
	defer client.Close()
	private := ask(client, mailbox+"CREATE", []byte{})
	first := ask(client, mailbox+"CREATE", result{"name": "create.one", "ttl": 60})
	second := ask(client, mailbox+"CREATE", result{"name": "create.one", "ttl": 90})
	return result{
		"private": isPrivate(private["mail_id"].(string)),
		"name":    first["mail_id"],
		"is_new":  []any{private["is_new"], first["is_new"], second["is_new"]},
		"ttl":     second["ttl"],
	}
}

func create(client *nats.Conn, name string, public bool) string {
	answer := ask(client, mailbox+"CREATE", result{"name": name, "public": public, "ttl": 3600})
	return answer["mail_id"].(string)
}

func send(client *nats.Conn, mailID string, priority string, payload string) float64 {
	return ask(client, mailbox+"MSG."+mailID+priority, []byte(payload))["msg_id"].(float64)
}

func mailboxReceive() result {
	client := connect()
	defer client.Close()
	name := create(client, "receive.one", false)
	low := send(client, name, ".low", "later")
	normal := send(client, name, "", "next")
	message := nats.NewMsg(mailbox + "MSG." + name)
	message.Data = []byte("first")
	message.Header = nats.Header{"mq9-priority": {"high"}, "my-own": {"kept"}}
	answer := map[string]any{}
	must(json.Unmarshal(got(client.RequestMsg(message, patience)).Data, &answer))
	ids := []string{fmt.Sprint(answer["msg_id"]), fmt.Sprint(normal), fmt.Sprint(low)}
	all, high := got(client.SubscribeSync(mailbox+"MSG."+name+".*")), got(client.SubscribeSync(mailbox+"MSG."+name+".high"))
	var found []string
	right := true
	for at := range 3 {
		message = next(all)
		found = append(found, message.Header["mq9-priority"][0]+" "+string(message.Data))
		right = right && message.Header["mq9-msg-id"][0] == ids[at]
		if at == 0 {
			right = right && message.Header["my-own"][0] == "kept"
		}
	}
	pending := message.Header["mq9-pending"][0]
	must(client.Publish(mailbox+"MSG."+name+".urgent", []byte("live")))
	live := next(all)
	send(client, name, ".high", "again")
	return result{
		"got":     found,
		"right":   right,
		"pending": pending,
		"live":    live.Header["mq9-priority"][0] + " " + string(live.Data),
		"high":    []string{string(next(high).Data), string(next(high).Data)},
	}
}

func payloads(answer map[string]any) []string {
	found := []string{}
	for _, message := range answer["messages"].([]any) {
		found = append(found, message.(map[string]any)["payload"].(string))
	}
	return found
}

func mailboxFetch() result {
	client := connect()
	defer client.Close()
	name := create(client, "fetch.one", false)
	for _, payload := range []string{"a", "b", "c"} {
		send(client, name, "", payload)
	}
	first := ask(client, mailbox+"LIST."+name, result{"limit": 2})
	second := ask(client, mailbox+"LIST."+name, result{"limit": 2, "after": first["next"]})
	return result{"pages": [][]string{payloads(first), payloads(second)}, "end": second["next"] == nil}
}

func mailboxDelete() result {
	client := connect()
	defer client.Close()
	name := create(client, "delete.one", false)
	id := fmt.Sprint(send(client, name, "", "a"))
	send(client, name, "", "b")
	first := ask(client, mailbox+"DELETE."+name+"."+id, []byte{})
	second := ask(client, mailbox+"DELETE."+name+"."+id, []byte{})
	left := payloads(ask(client, mailbox+"LIST."+name, result{}))
	removed := ask(client, mailbox+"REMOVE."+name, []byte{})
	refusal := got(client.Request(mailbox+"LIST."+name, nil, patience))
	return result{
		"deleted": []any{first["deleted"], second["deleted"]},
		"left":    left,
		"removed": removed["deleted"],
		"code":    refusal.Header["Nats-Service-Error-Code"][0],
	}
}

func mailboxList() result {
	client := connect()
	defer client.Close()
	create(client, "list.one", true)
	subscription := got(client.SubscribeSync("$mq9.AI.PUBLIC.LIST"))
	event := func() string {
		said := map[string]any{}
		must(json.Unmarshal(next(subscription).Data, &said))
		return fmt.Sprint(said["event"], " ", said["mail_id"])
	}
	events := []string{event()}
	create(client, "list.two", true)
	events = append(events, event())
	listed := []any{}
	for _, each := range ask(client, "$mq9.AI.PUBLIC.LIST", result{"prefix": "list."})["mailboxes"].([]any) {
		listed = append(listed, each.(map[string]any)["mail_id"])
	}
	ask(client, mailbox+"REMOVE.list.two", []byte{})
	events = append(events, event())
	ask(client, mailbox+"REMOVE.list.one", []byte{})
	return result{"events": events, "listed": listed}
}

func leased(answer map[string]any) (found []string, ids []float64) {
	found = []string{}
	for _, each := range answer["messages"].([]any) {
		message := each.(map[string]any)
		var payload []byte
		must(json.Unmarshal(got(json.Marshal(message["payload"])), &payload)) // base64
		found = append(found, fmt.Sprintf("%s %v", payload, message["attempt"]))
		ids = append(ids, message["msg_id"].(float64))
	}
	return found, ids
}

func fetchWork(client *nats.Conn, name string, count int) ([]string, []float64) {
	return leased(ask(client, "$mq9.AI.MSG.FETCH."+name, result{
		"group_name": "workers", "lease_ms": 60000, "config": result{"num_msgs": count, "max_wait_ms": 0},
	}))
}

func acknowledge(client *nats.Conn, name, op string, ids ...float64) any {
	return ask(client, "$mq9.AI.MSG.ACK."+name, result{"group_name": "workers", "msg_ids": ids, "op": op})["error"]
}

func mailboxWork() result {
	client := connect()
	defer client.Close()
	name := create(client, "work.one", false)
	for _, payload := range []string{"a", "b", "c"} {
		send(client, name, "", payload)
	}
	first, ids := fetchWork(client, name, 2)
	acked := acknowledge(client, name, "ack", ids[0])
	nacked := acknowledge(client, name, "nack", ids[1])
	second, _ := fetchWork(client, name, 10)
	third, _ := fetchWork(client, name, 10)
	return result{"first": first, "acked": acked, "nacked": nacked, "second": second, "third": third}
}

func mailboxWorkers() result {
	first, second := connect(), connect()
	defer first.Close()
	defer second.Close()
	name := create(first, "workers.one", false)
	var lock sync.Mutex
	found := map[string]int{}
	for _, client := range []*nats.Conn{first, second} {
		got(client.QueueSubscribe(mailbox+"MSG."+name, "workers", func(message *nats.Msg) {
			lock.Lock()
			defer lock.Unlock()
			found[string(message.Data)]++
		}))
		must(client.Flush())
	}
	for number := range 40 {
		send(first, name, "", fmt.Sprint(number))
	}
	count := func() (different, all int) {
		lock.Lock()
		defer lock.Unlock()
		for _, times := range found {
			all += times
		}
		return len(found), all
	}
	until(func() bool { different, _ := count(); return different == 40 })
	must(first.Flush())
	must(second.Flush())
	_, all := count()
	return result{"handled": all}
}

func mailboxRefusal() result {
	var heard atomic.Int64
	client := connect()
	client.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			heard.Add(1)
		}
	})
	defer client.Close()
	must(client.Publish(mailbox+"MSG.nobody", []byte("hello")))
	until(func() bool { return heard.Load() == 1 })
	return result{"heard": heard.Load(), "connected": client.IsConnected()}
}

func mailboxRestart() result {
	again := make(chan struct{}, 8)
	client := connect(nats.ReconnectHandler(func(*nats.Conn) { again <- struct{}{} }))
	defer client.Close()
	name := create(client, "restart.one", false)
	subscription := got(client.SubscribeSync(mailbox + "MSG." + name + ".*"))
	take := func(count int) []string {
		found := []string{}
		for range count {
			found = append(found, string(next(subscription).Data))
		}
		return found
	}
	send(client, name, "", "a")
	send(client, name, "", "b")
	before := take(2)
	restart(again)
	send(client, name, "", "c")
	return result{"before": before, "after": take(3), "stored": payloads(ask(client, mailbox+"LIST."+name, result{}))}
}

func mailboxWorkRestart() result {
	again := make(chan struct{}, 8)
	client := connect(nats.ReconnectHandler(func(*nats.Conn) { again <- struct{}{} }))
	defer client.Close()
	name := create(client, "restart.work", false)
	send(client, name, "", "a")
	send(client, name, "", "b")
	first, ids := fetchWork(client, name, 1)
	restart(again)
	second, more := fetchWork(client, name, 10)
	acked := acknowledge(client, name, "ack", append(ids, more...)...)
	return result{"first": first, "second": second, "acked": acked}
}

// who may come in

func credentials() []nats.Option {
	var options []nats.Option
	if user := os.Getenv("NATS_USER"); user != "" {
		options = append(options, nats.UserInfo(user, os.Getenv("NATS_PASSWORD")))
	}
	if token := os.Getenv("NATS_TOKEN"); token != "" {
		options = append(options, nats.Token(token))
	}
	if seed := os.Getenv("NATS_NKEY_SEED_FILE"); seed != "" {
		options = append(options, got(nats.NkeyOptionFromSeed(seed)))
	}
	if authority := os.Getenv("NATS_CA"); authority != "" {
		options = append(options, nats.RootCAs(authority))
	}
	if certificate := os.Getenv("NATS_CERT"); certificate != "" {
		options = append(options, nats.ClientCert(certificate, os.Getenv("NATS_KEY")))
	}
	if os.Getenv("NATS_TLS_FIRST") != "" {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options
}

func roundTrip() result {
	client := connect(credentials()...)
	defer client.Close()
	subscription := got(client.SubscribeSync("open.a"))
	must(client.Publish("open.a", []byte("hello")))
	return result{"got": string(next(subscription).Data)}
}

func refused() result {
	client, err := nats.Connect(os.Getenv("NATS_URL"), append(credentials(), nats.Timeout(patience))...)
	if err == nil {
		client.Close()
	}
	return result{"refused": err != nil}
}

func permissions() result {
	var heard atomic.Int64
	client := connect(credentials()...)
	client.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			heard.Add(1)
		}
	})
	defer client.Close()
	must(client.Publish("closed.a", []byte("hello")))
	until(func() bool { return heard.Load() == 1 })
	subscription := got(client.SubscribeSync("open.a"))
	must(client.Publish("open.a", []byte("hello")))
	return result{"heard": heard.Load(), "got": string(next(subscription).Data)}
}

var scenarios = map[string]func() result{
	"connect":              connecting,
	"publish_subscribe":    publishSubscribe,
	"wildcards":            wildcards,
	"queues":               queues,
	"requests":             func() result { return requests() },
	"requests_old_style":   func() result { return requests(nats.UseOldRequestStyle()) },
	"headers":              headers,
	"header_twice":         headerTwice,
	"header_empty":         headerEmpty,
	"no_responders":        noResponders,
	"unsubscribe":          unsubscribe,
	"no_echo":              noEcho,
	"drain":                drain,
	"reconnect":            reconnect,
	"mailbox_create":       mailboxCreate,
	"mailbox_receive":      mailboxReceive,
	"mailbox_fetch":        mailboxFetch,
	"mailbox_delete":       mailboxDelete,
	"mailbox_list":         mailboxList,
	"mailbox_work":         mailboxWork,
	"mailbox_workers":      mailboxWorkers,
	"mailbox_refusal":      mailboxRefusal,
	"mailbox_restart":      mailboxRestart,
	"mailbox_work_restart": mailboxWorkRestart,
	"round_trip":           roundTrip,
	"refused":              refused,
	"permissions":          permissions,
}

func play(name string) {
	defer func() {
		if problem := recover(); problem != nil {
			say(result{"scenario": name, "error": fmt.Sprint(problem)})
		}
	}()
	say(result{"scenario": name, "result": scenarios[name]()})
}

func main() {
	for _, name := range os.Args[1:] {
		play(name)
	}
}
