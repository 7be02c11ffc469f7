// Run one whole trial and print the return of each episode as JSON.
//   ./trial [HOST:PORT [ANGLE [SEED]]]
#include <cstdlib>
#include <iostream>

#include "hard_point_robot.h"
#include "session.h"

namespace {

double RunEpisode(ccm::Session& session, HardPointRobotAligned& env, std::string& phase) {
  auto answer = session.BeginEpisode(env.Reset());
  phase = ccm::pb::Phase_Name(answer.phase());
  double total = 0.0;
  while (!answer.episode_over()) {
    const After after = env.Step(answer.action());
    total += after.reward;
    answer = session.Act(after.observation, after.reward, false, after.truncated);
  }
  return total;
}

template <typename Numbers>
std::ostream& Print(std::ostream& out, const Numbers& numbers) {
  const char* between = "";
  out << "[";
  for (const auto& number : numbers) {
    out << between << number;
    between = ", ";
  }
  return out << "]";
}

}  // namespace

int main(int argc, char** argv) {
  const std::string server = argc > 1 ? argv[1] : "127.0.0.1:7070";
  const double angle = argc > 2 ? std::atof(argv[2]) : 1.0;
  try {
    ccm::Session session(grpc::CreateChannel(server, grpc::InsecureChannelCredentials()));
    ccm::pb::OpenSessionRequest options;
    options.set_seed(argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 0);
    options.set_expected_observation_size(2);
    options.set_expected_action_size(2);
    const auto opened = session.Open(options);

    HardPointRobotAligned env(angle);
    std::vector<double> returns;
    std::vector<std::string> phases;
    for (unsigned episode = 0; episode < opened.agent().episodes(); ++episode) {
      std::string phase;
      returns.push_back(RunEpisode(session, env, phase));
      phases.push_back('"' + phase + '"');
    }
    const auto closed = session.Close();
    std::cout << "{\"agent\": \"" << opened.agent().agent_id() << "\", \"angle\": " << angle << ", \"returns\": ";
    Print(std::cout, returns) << ", \"phases\": ";
    Print(std::cout, phases) << ", \"closed\": ";
    Print(std::cout, closed.returns()) << "}" << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "trial: error: " << error.what() << std::endl;
    return 1;
  }
}
