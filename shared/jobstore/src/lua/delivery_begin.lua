-- One receipt of a delivery's message: {1, the whole hash}, or {0} for one to drop.
-- KEYS: delivery   ARGV: turn, turn id, round ms (0: the first), ttl ms, double click ms
local there = redis.call('HMGET', KEYS[1], 'round', 'turn', 'doc')
local round, mine = tonumber(there[1] or 0), tonumber(ARGV[3])
if mine < round then return {'0'} end
if mine > round then
  if round > 0 and mine - round < tonumber(ARGV[5]) then return {'0'} end
  local last = 0
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local number = tonumber(string.match(field, '^a(%d+)$') or 0)
    if number > last then last = number end
  end
  redis.call('HSET', KEYS[1], 'round', ARGV[3], 'base', last)
  if there[3] then redis.call('HSET', KEYS[1], 'status', 'pending') end
elseif there[2] then
  local turn, id = string.match(there[2], '^(%d+):(.*)$')
  local now = tonumber(ARGV[1])
  local pass = now > tonumber(turn) or (now == tonumber(turn) and id == ARGV[2])
  if not pass then return {'0'} end
end
redis.call('HSET', KEYS[1], 'turn', ARGV[1] .. ':' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local answer = redis.call('HGETALL', KEYS[1])
table.insert(answer, 1, '1')
return answer
