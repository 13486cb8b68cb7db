ngx.header.content_type = "text/html; charset=utf-8"
local page = { "<!DOCTYPE html>\n<title>Stock</title>\n<table>\n" }
page[2] = "<tr><th>No.</th><th>Name</th><th>Left</th><th>Price</th></tr>\n"
for no = 1, 50 do
  local price = string.format("%d.%02d", no * 37 % 100, no * 59 % 100)
  page[#page + 1] = "<tr><td>" .. no .. "</td><td>Part " .. no
    .. "</td><td>" .. no * 7 .. "</td><td>" .. price .. "</td></tr>\n"
end
page[#page + 1] = "</table>\n"
ngx.print(page)
