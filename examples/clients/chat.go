// One message at the terminal, with Go's standard library alone: BYTEBREW_TOKEN=... go run chat.go SCHEMA MESSAGE
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

// patience is how long a message is tried again without any event.
const patience = 2 * time.Minute

// Event is a Server-Sent Event. One without an ID is no part of the history: the stream failed, and not its turn.
type Event struct{ ID, Name, Data string }

// Refused is an answer in the engine's one shape of errors; after is when the request may be sent again, if at all.
type Refused struct {
	Status  int
	Code    string `json:"error"`
	Message string `json:"message"`
	after   time.Duration
}

func (r *Refused) Error() string { return fmt.Sprintf("%s: %s", r.Code, r.Message) }

// Conversation is a session with a schema.
type Conversation struct {
	url, token, schema string
	session, last      string
	input              *bufio.Reader
}

// say sends a message and prints the answer; the message counts once, however often it has to be sent.
func (c *Conversation) say(ctx context.Context, message string) error {
	key, turn, progress := rand.Text(), "", time.Now()
	for {
		ended, err := c.follow(ctx, message, key, &turn, &progress)
		var refused *Refused
		if errors.As(err, &refused) && refused.after == 0 || ended || ctx.Err() != nil {
			return err
		}
		if time.Since(progress) > patience {
			return fmt.Errorf("no event for %s: %w", patience, err)
		}
		wait := time.Second
		if refused != nil {
			wait = refused.after
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// follow reads one connection: the chat, or the events behind the last one that was seen. It says whether the turn ended.
func (c *Conversation) follow(ctx context.Context, message, key string, turn *string, progress *time.Time) (bool, error) {
	var response *http.Response
	var err error
	if *turn == "" {
		body := map[string]any{"message": message}
		response, err = c.send(ctx, "POST", "schemas/"+c.schema+"/chat", body, "Idempotency-Key", key)
	} else {
		response, err = c.send(ctx, "GET", "sessions/"+c.session+"/events", nil, "Last-Event-ID", c.last)
	}
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	c.session = response.Header.Get("X-Session-Id")
	if *turn == "" {
		*turn = response.Header.Get("X-Turn-Id")
	}
	events := bufio.NewReader(response.Body)
	for {
		event, err := next(events)
		if err != nil || event.Name == "error" && event.ID == "" {
			return false, err // the connection ended before the turn did
		}
		if event.ID != "" {
			c.last = event.ID
		}
		*progress = time.Now()
		if ended, err := c.show(ctx, event, *turn); ended || err != nil {
			return ended, err
		}
	}
}

// show prints an event, and asks the person where it is a question. It says whether the turn ended.
func (c *Conversation) show(ctx context.Context, event Event, turn string) (bool, error) {
	var data struct {
		Content, Tool, Code, Message string
		Input                        json.RawMessage
		TurnID                       string `json:"turn_id"`
		ConfirmationID               string `json:"confirmation_id"`
	}
	if err := json.Unmarshal([]byte(event.Data), &data); err != nil {
		return false, err
	}
	switch event.Name {
	case "message_delta":
		fmt.Print(data.Content)
	case "message_restart": // after a restart of the engine the model gave another answer
		fmt.Printf("\n[again]\n%s", data.Content)
	case "confirmation":
		fmt.Printf("\n[%s %s] May it run? ", data.Tool, data.Input)
		return false, c.answer(ctx, data.ConfirmationID)
	case "done":
		fmt.Println()
		return data.TurnID == turn, nil // others may talk in the session too
	case "error":
		return data.TurnID == turn, fmt.Errorf("%s: %s", data.Code, data.Message)
	}
	return false, nil
}

// answer reads a line and sends it as the answer to a question until the engine has it; what is no yes is a no.
func (c *Conversation) answer(ctx context.Context, question string) error {
	line, _ := c.input.ReadString('\n') // at its end there is no line, and so no yes
	body := map[string]any{"confirmation_id": question, "answers": []string{strings.TrimSpace(line)}}
	key := rand.Text()
	for began := time.Now(); ; time.Sleep(time.Second) {
		response, err := c.send(ctx, "POST", "sessions/"+c.session+"/respond", body, "Idempotency-Key", key)
		if err == nil {
			return response.Body.Close()
		}
		var refused *Refused
		if errors.As(err, &refused) && refused.after == 0 {
			fmt.Fprintf(os.Stderr, "[%s]\n", err) // somebody else has answered: the stream has the outcome
			return nil
		}
		if ctx.Err() != nil || time.Since(began) > patience {
			return err
		}
	}
}

// send makes one request, with a header besides the token; an answer other than a success is a *Refused.
func (c *Conversation) send(ctx context.Context, method, path string, body any, name, value string) (*http.Response, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+"/api/v1/"+path, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	if body == nil {
		request.Body, request.ContentLength = http.NoBody, 0
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(name, value)
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode < 300 {
		return response, err
	}
	defer response.Body.Close()
	refused := &Refused{Status: response.StatusCode, Code: response.Status}
	if text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20)); err != nil {
		return nil, err
	} else if json.Unmarshal(text, refused) != nil {
		refused.Message = string(text) // a proxy's own page
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		refused.after = max(time.Second, time.Duration(seconds)*time.Second)
	} else if response.StatusCode >= 502 && response.StatusCode <= 504 { // a proxy's: the engine is away
		refused.after = time.Second
	}
	return nil, refused
}

// next reads an event; io.EOF and io.ErrUnexpectedEOF say that the connection has ended.
func next(lines *bufio.Reader) (event Event, err error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return Event{}, err // what came of an event so far comes again
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" && event.Data != "" {
			return event, nil
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "id":
			event.ID = value
		case "event":
			event.Name = value
		case "data":
			event.Data = value
		}
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "Usage: BYTEBREW_TOKEN=... go run chat.go SCHEMA MESSAGE")
		os.Exit(2)
	}
	url := os.Getenv("BYTEBREW_URL")
	if url == "" {
		url = "http://127.0.0.1:8443"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := &Conversation{url: url, token: os.Getenv("BYTEBREW_TOKEN"), schema: os.Args[1], input: bufio.NewReader(os.Stdin)}
	if err := c.say(ctx, os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "\n[%s]\n", err)
		os.Exit(1)
	}
}
