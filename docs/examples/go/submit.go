// Submits a job over AMQP and waits for the answer.
//
//	PHOTOFINISH_AMQP_URL=amqps://acme:password@rabbitmq.example.com/vhost go run submit.go job.json order-17
//
// Needs `go get github.com/rabbitmq/amqp091-go`, or Debian's golang-github-rabbitmq-amqp091-go-dev.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	address, path, key := os.Getenv("PHOTOFINISH_AMQP_URL"), os.Args[1], os.Args[2]
	uri, err := amqp.ParseURI(address)
	must(err)
	body, err := os.ReadFile(path)
	must(err)
	connection, err := amqp.Dial(address)
	must(err)
	defer connection.Close()
	channel, err := connection.Channel()
	must(err)
	must(channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 1))
	replies, err := channel.QueueDeclare("", false, true, true, false, nil)
	must(err)
	answers, err := channel.Consume(replies.Name, "", true, true, false, false, nil)
	must(err)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(channel.PublishWithContext(ctx, "photofinish.jobs", "job.submit", true, false,
		amqp.Publishing{
			ContentType:   "application/json",
			DeliveryMode:  amqp.Persistent,
			MessageId:     key,          // the idempotency key
			UserId:        uri.Username, // the tenant
			ReplyTo:       replies.Name,
			CorrelationId: key,
			Body:          body,
		}))
	select {
	case confirm := <-confirms:
		if !confirm.Ack {
			log.Fatal("not taken: run this again with the same key")
		}
	case <-ctx.Done():
		log.Fatal("not confirmed within a minute: run this again with the same key")
	}
	select {
	case answer := <-answers:
		fmt.Println(answer.Type, string(answer.Body))
	case <-ctx.Done():
		log.Fatal("no answer within a minute; the job is safe: run this again with the same key")
	}
}
