-- A run is about to be ended: nothing says any more that it surely goes on. KEYS: head   ARGV: run
if redis.call('HGET', KEYS[1], 'run') == ARGV[1] then redis.call('HDEL', KEYS[1], 'open') end
return redis.status_reply('OK')
