local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#039;" }

local function escape(text)
  return (text:gsub("[&<>\"']", entities))
end

ngx.header.content_type = "text/html; charset=utf-8"
local page = { "<!DOCTYPE html>\n<title>Orders</title>\n<table>\n" }
page[2] = "<tr><th>No.</th><th>Customer</th><th>Price</th></tr>\n"
for number = 1, 50 do
  local customer = escape("Smith & Sons <no. " .. number .. ">, called \"Smith's\"")
  local price = string.format("%d.%02d", number * 37 % 100, number * 59 % 100)
  page[#page + 1] = "<tr><td>" .. number .. "</td><td>" .. customer .. "</td><td>" .. price .. "</td></tr>\n"
end
page[#page + 1] = "</table>\n"
ngx.print(page)
