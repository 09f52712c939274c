#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
namespace {
struct Crew { int size; std::string name; std::map<std::string, std::vector<int>> days; };
std::unordered_map<int, std::unique_ptr<Crew>> crews;
int counted[64];
template <int N> struct Step {
	static int run(const Crew &crew, int by) {
		int sum = by;
		for (const auto &[day, hours] : crew.days)
			sum += std::accumulate(hours.begin(), hours.end(), N) + static_cast<int>(day.size());
		counted[N % 64] += sum;
		return sum + Step<N - 1>::run(crew, sum);
	}
};
template <> struct Step<0> { static int run(const Crew &crew, int by) { return by + crew.size; } };
}
int unit_entry(int by) {
	auto crew = std::make_unique<Crew>();
	std::ostringstream text;
	text << by;
	crew->name = text.str();
	for (int day = 0; day < by; day++)
		crew->days[text.str()].push_back(day);
	int sum = Step<40>::run(*crew, by);
	std::vector<std::function<int(int)>> later;
	for (int one = 0; one < by; one++)
		later.push_back([one, sum](int other) { return one * sum + other; });
	std::sort(crew->days[crew->name].begin(), crew->days[crew->name].end());
	crews[by] = std::move(crew);
	for (auto &call : later)
		sum = call(sum);
	return sum;
}
