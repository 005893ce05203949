package plan

import (
	"encoding/json"
	"fmt"
)

// read decodes a line {"id", "input"}.
func read[Q any](line []byte) (id string, input *Q, err error) {
	var q struct {
		ID    string `json:"id"`
		Input Q      `json:"input"`
	}
	if err := json.Unmarshal(line, &q); err != nil {
		return "", nil, fmt.Errorf("question: %w", err)
	}
	return q.ID, &q.Input, nil
}

// reply decodes a line {"id", "input"}, has the input answered and encodes {"id", "output"}.
func reply[Q, A any](line []byte, answer func(*Q) (A, error)) ([]byte, error) {
	id, input, err := read[Q](line)
	if err != nil {
		return nil, err
	}
	output, err := answer(input)
	if err != nil {
		return nil, fmt.Errorf("question %s: %w", id, err)
	}
	return json.Marshal(map[string]any{"id": id, "output": output})
}
