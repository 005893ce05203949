package plan

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// maxLine is the longest question that is read, in bytes; capabilities of large hosts are some 100 kB.
const maxLine = 64 << 20

// Lines answers the questions on r, one a line, on w, one a line. A question that cannot be answered
// gets {"id", "error": {"message"}} for its answer; the rest is answered all the same, and the
// error that is returned at the end says how many there were.
func Lines(w io.Writer, r io.Reader, answer func(line []byte) ([]byte, error)) error {
	out := bufio.NewWriter(w)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	asked, wrong := 0, 0
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		asked++
		text, err := answer(lines.Bytes())
		if err != nil {
			wrong++
			text = refusal(lines.Bytes(), err)
		}
		if _, err := out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", asked+1, err)
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d questions could not be answered", wrong, asked)
	}
	return nil
}

func refusal(line []byte, err error) []byte {
	var q struct {
		ID any `json:"id"`
	}
	_ = json.Unmarshal(line, &q) // a line that is no question has no ID
	text, marshalErr := json.Marshal(map[string]any{"id": q.ID, "error": map[string]string{"message": err.Error()}})
	if marshalErr != nil {
		return []byte("{}") // cannot happen: strings and what came out of JSON
	}
	return text
}
