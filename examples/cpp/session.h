// A ccm session over one stream: tell what happened, get the next action.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ccm_runtime/v1/adaptation.grpc.pb.h"

namespace ccm {

namespace pb = ccm_runtime::v1;

class Session {
 public:
  explicit Session(std::shared_ptr<grpc::Channel> channel)
      : stub_(pb::Adaptation::NewStub(std::move(channel))), stream_(stub_->Session(&call_)) {}

  // Returns id, token and agent. A server whose agent has other sizes refuses at once.
  pb::OpenSessionResponse Open(const pb::OpenSessionRequest& options) {
    pb::SessionRequest request;
    *request.mutable_open() = options;
    return Ask(request).opened();
  }

  // The environment was reset. Returns action, phase, episode, certainty, ...
  pb::Answer BeginEpisode(const std::vector<float>& observation) {
    pb::SessionRequest request;
    auto* begun = request.mutable_event()->mutable_begin_episode();
    begun->mutable_observation()->Add(observation.begin(), observation.end());
    return Tell(request);
  }

  // One step finished. Returns the next action, or `episode_over`: then begin the next episode.
  pb::Answer Act(const std::vector<float>& observation, float reward, bool terminated, bool truncated) {
    pb::SessionRequest request;
    auto* moved = request.mutable_event()->mutable_transition();
    moved->mutable_observation()->Add(observation.begin(), observation.end());
    moved->set_reward(reward);
    moved->set_terminated(terminated);
    moved->set_truncated(truncated);
    return Tell(request);
  }

  // Returns the server's own count of the returns, and what it knew of the task.
  pb::CloseSessionResponse Close() {
    pb::SessionRequest request;
    request.mutable_close();
    auto closed = Ask(request).closed();
    stream_->WritesDone();
    return closed;
  }

 private:
  pb::Answer Tell(pb::SessionRequest& request) {
    request.mutable_event()->set_sequence(sequence_ + 1);
    auto answer = Ask(request).answer();
    sequence_ = answer.sequence();  // only an answered event has a number; a refused one may be mended and sent again
    return answer;
  }

  pb::SessionResponse Ask(const pb::SessionRequest& request) {
    pb::SessionResponse response;
    if (!stream_->Write(request) || !stream_->Read(&response)) {
      throw std::runtime_error(stream_->Finish().error_message());
    }
    if (response.kind_case() == pb::SessionResponse::kError) {
      const auto& error = response.error();
      throw std::runtime_error("event " + std::to_string(error.sequence()) + " was refused: " + error.message());
    }
    return response;
  }

  grpc::ClientContext call_;
  std::unique_ptr<pb::Adaptation::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::SessionRequest, pb::SessionResponse>> stream_;
  uint64_t sequence_ = 0;
};

}  // namespace ccm
