package main

import (
	"context"
	"errors"
	"sync"
	"time"

	pitaya "github.com/topfreegames/pitaya/v3/pkg"
	"github.com/topfreegames/pitaya/v3/pkg/component"
	"github.com/topfreegames/pitaya/v3/pkg/protos"
	"github.com/topfreegames/pitaya/v3/pkg/session"
)

// Untyped holds the handlers that read the same in both serializers.
type Untyped struct {
	component.Base
	app   pitaya.Pitaya
	mutex sync.Mutex
	waves map[int64]int64 // by session id
}

func (u *Untyped) Raw(_ context.Context, body []byte) ([]byte, error) {
	return body, nil
}

// Wave is a notify: it has no results.
func (u *Untyped) Wave(ctx context.Context) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.waves[u.session(ctx).ID()]++
}

func (u *Untyped) PushRaw(ctx context.Context, body []byte) ([]byte, error) {
	return body, u.session(ctx).Push(pushRaw, body)
}

func (u *Untyped) KickMe(ctx context.Context) ([]byte, error) {
	return []byte("kicked"), u.session(ctx).Kick(ctx)
}

func (u *Untyped) Fail(context.Context) ([]byte, error) {
	return nil, pitaya.Error(errors.New("test error"), "PIT-433", map[string]string{"some": "meta"})
}

func (u *Untyped) FailCode(context.Context) ([]byte, error) {
	return nil, pitaya.Error(errors.New("somerror"), "PIT-555")
}

func (u *Untyped) FailPlain(context.Context) ([]byte, error) {
	return nil, errors.New("plain error")
}

func (u *Untyped) Panics(context.Context) ([]byte, error) {
	panic(errors.New("on purpose"))
}

// Stuck has no deadline here: Pitaya for Go knows none for handlers.
func (u *Untyped) Stuck(context.Context) ([]byte, error) {
	time.Sleep(time.Second)
	return []byte("late"), nil
}

func (u *Untyped) session(ctx context.Context) session.Session {
	return u.app.GetSessionFromCtx(ctx)
}

func (u *Untyped) countWaves(ctx context.Context) int64 {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	return u.waves[u.session(ctx).ID()]
}

func (u *Untyped) pushNumbers(ctx context.Context, count int64, payload func(int64) any) error {
	for n := int64(1); n <= count; n++ {
		if err := u.session(ctx).Push(pushNumber, payload(n)); err != nil {
			return err
		}
	}
	return nil
}

// InJSON has the typed handlers of JSON mode.
type InJSON struct{ Untyped }

func (h *InJSON) Echo(_ context.Context, in *Text) (*Text, error) { return in, nil }

func (h *InJSON) Waves(ctx context.Context) (*Number, error) {
	return &Number{h.countWaves(ctx)}, nil
}

func (h *InJSON) Bind(ctx context.Context, in *UID) (*UID, error) {
	return in, h.session(ctx).Bind(ctx, in.UID)
}

func (h *InJSON) WhoAmI(ctx context.Context) (*UID, error) {
	return &UID{h.session(ctx).UID()}, nil
}

func (h *InJSON) PushMe(ctx context.Context, in *Number) (*Number, error) {
	return in, h.pushNumbers(ctx, in.N, func(n int64) any { return &Number{n} })
}

func (h *InJSON) Slow(_ context.Context, in *Number) (*Number, error) {
	time.Sleep(time.Duration(in.N) * time.Millisecond)
	return in, nil
}

// InProtobuf has the typed handlers of Protobuf mode. The payloads are messages that every
// Pitaya server already knows, so that no schema of ours is needed.
type InProtobuf struct{ Untyped }

func (h *InProtobuf) Echo(_ context.Context, in *protos.Doc) (*protos.Doc, error) {
	return in, nil
}

func (h *InProtobuf) Waves(ctx context.Context) (*protos.Msg, error) {
	return &protos.Msg{Id: uint64(h.countWaves(ctx))}, nil
}

func (h *InProtobuf) Bind(ctx context.Context, in *protos.BindMsg) (*protos.BindMsg, error) {
	return in, h.session(ctx).Bind(ctx, in.Uid)
}

func (h *InProtobuf) WhoAmI(ctx context.Context) (*protos.BindMsg, error) {
	return &protos.BindMsg{Uid: h.session(ctx).UID()}, nil
}

func (h *InProtobuf) PushMe(ctx context.Context, in *protos.Msg) (*protos.Msg, error) {
	push := func(n int64) any { return &protos.Msg{Id: uint64(n)} }
	return in, h.pushNumbers(ctx, int64(in.Id), push)
}

func (h *InProtobuf) Slow(_ context.Context, in *protos.Msg) (*protos.Msg, error) {
	time.Sleep(time.Duration(in.Id) * time.Millisecond)
	return in, nil
}
