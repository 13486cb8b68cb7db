return function(env)
  local parts = {
    "<!DOCTYPE html>\n<title>Stock</title>\n<table>\n<tr><th>No.</th><th>Article</th><th>Price</th></tr>\n",
  }
  for number = 1, 50 do
    local price = string.format("%d.%02d", number * 37 % 100, number * 59 % 100)
    parts[#parts + 1] = "<tr><td>" .. number .. "</td><td>Article " .. number .. "</td><td>" .. price .. "</td></tr>\n"
  end
  parts[#parts + 1] = "</table>\n"
  local function body()
    coroutine.yield(table.concat(parts))
  end
  return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, coroutine.wrap(body)
end
