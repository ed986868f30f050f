package main

import (
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	nc, err := nats.Connect(os.Args[1])
	check(err)
	ask := func(subject, body string) {
		reply, err := nc.Request("$mq9.AI."+subject, []byte(body), 5*time.Second)
		check(err)
		fmt.Println(string(reply.Data))
	}
	ask("MAILBOX.CREATE", `{"name": "desk", "public": true, "ttl": 3600}`)
	ask("MAILBOX.MSG.desk.high", "hello") // answered once it is on disk
	inbox, err := nc.SubscribeSync("$mq9.AI.MAILBOX.MSG.desk.*")
	check(err)
	message, err := inbox.NextMsg(5 * time.Second)
	check(err)
	fmt.Println(message.Header.Get("mq9-priority"), string(message.Data))
	ask("MAILBOX.LIST.desk", `{"limit": 10}`)
	ask("MAILBOX.DELETE.desk."+message.Header.Get("mq9-msg-id"), "")
	ask("PUBLIC.LIST", "")
	nc.Close()
}
